"""Measurements of `gpu_figures.py`: tests, throughput, precision, and the LLC of many checkpoints in one program."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gpu_output import Clock, Output
from gpu_training import lrt_checkpoints, lrt_config, lrt_subject

import slt_jax
from configs.lrt_stages import LRTStages, Sampling
from slt_jax.backend import full_precision
from slt_jax.models.language_model import LanguageModel, init, next_token_loss
from slt_jax.posterior import LocalPosterior, minibatch_loss
from slt_jax.progress import Stopped
from slt_jax.training.loop import init_train_state, train_steps

ROOT = Path(__file__).resolve().parent.parent
PEAKS = {
    "H200": (67.0, 494.0, 989.0), "H100": (67.0, 494.0, 989.0), "A100": (19.5, 156.0, 312.0), "L40S": (91.6, 183.0, 362.0),
    "L4": (30.3, 60.0, 121.0), "V100": (15.7, None, 125.0), "T4": (8.1, None, 65.0),
}  # fmt: skip
"""TFLOP/s of dense products in float32, TF32 and bfloat16 (float16 where there is none), from the makers' data sheets."""
PRECISIONS = {"float32": "float32", "TF32": "TF32_TF32_F32", "bfloat16": "BF16_BF16_F32"}


class Workload(NamedTuple):
    """A model whose chains are timed: `tokens` of them in an example."""

    name: str
    posterior: LocalPosterior
    batch_size: int
    chains: Sequence[int]
    tokens: int


def run_tests() -> dict[str, Any]:
    """The tests marked `gpu`, in a process of their own that does not take all of the memory."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", ""),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return {"exit code": done.returncode, "summary": lines[-1] if lines else "", "output": lines[-40:], "done": True}


def peaks(kind: str) -> dict[str, float | None]:
    """TFLOP/s of the card by precision; empty if it is not known."""
    known = [values for name, values in PEAKS.items() if name in kind]
    return dict(zip(PRECISIONS, known[0], strict=True)) if known else {}


def workloads(
    config: LRTStages, language: LanguageModel, lrt_chains: Sequence[int], lm_chains: Sequence[int], batch: int
) -> list[Workload]:
    """The regression transformer and the language model, before training: values do not change the time."""
    subject, sampling = lrt_subject(config, 1), config.sampling
    regression = LocalPosterior(
        subject.loss_fn,
        subject.posterior_data(4 * sampling.batch_size),
        subject.init(),
        sampling.nbeta,
        sampling.localization,
    )
    tokens = jax.random.randint(jax.random.key(1), (4 * batch, language.context), 0, language.vocab_size)
    text = LocalPosterior(next_token_loss(language), {"tokens": tokens}, init(jax.random.key(0), language), 21.7, 300.0)
    return [
        Workload("regression transformer", regression, sampling.batch_size, lrt_chains, 2 * subject.model.num_examples),
        Workload("language model", text, batch, lm_chains, language.context),
    ]


def throughput(work: Sequence[Workload], steps: int, clock: Clock, say: Callable[[str], None]) -> dict[str, Any]:
    """Chain-steps and tokens a second of `sample` and of the bare gradient, for several numbers of chains."""
    rows, card = [], peaks(jax.devices()[0].device_kind)
    for one in work:
        for chains in one.chains:
            if clock.over():
                return {"rows": rows, "done": False}
            ours, bare = _sampler_rate(one, chains, steps), _bare_rate(one, chains, steps)
            teraflops = bare * _gradient_flops(one) / 1e12
            share = {f"share of {name} peak": teraflops / peak for name, peak in card.items() if peak}
            rows.append({
                "model": one.name, "batch": one.batch_size, "chains": chains, "chain-steps/s": ours,
                "tokens/s": ours * one.batch_size * one.tokens, "bare gradients/s": bare, "sample over bare": bare / ours,
                "TFLOP/s of the bare gradient": teraflops, **share,
            })  # fmt: skip
            say(
                f"{one.name}, batch {one.batch_size}, {chains} chains: {ours:,.0f} chain-steps/s, bare {bare:,.0f}, {teraflops:.2f} TFLOP/s"
            )
    return {"rows": rows, "peak TFLOP/s": card, "done": True}


def _sampler_rate(work: Workload, chains: int, steps: int) -> float:
    """Chain-steps a second that `sample` adds to a call."""

    def call(num_burnin: int) -> float:
        began = time.perf_counter()
        samples = slt_jax.sample(
            jax.random.key(1), work.posterior, slt_jax.sgld(work.batch_size), step_size=1e-6, num_chains=chains,
            num_draws=steps, num_burnin=num_burnin, inspection=False,
        )  # fmt: skip
        jax.block_until_ready(samples.chains)
        return time.perf_counter() - began

    call(0), call(steps)
    return steps * chains / max(call(steps) - call(0), 1e-9)


@full_precision()
def _bare_rate(work: Workload, chains: int, steps: int) -> float:
    """Gradients a second of a compiled loop that does nothing else."""

    @jax.jit
    def gradients(posterior: LocalPosterior, starts: jax.Array) -> Any:
        def chain(start: jax.Array) -> Any:
            def step(index: jax.Array, params: Any) -> Any:
                begin = (start + index * work.batch_size) % (posterior.n - work.batch_size + 1)
                indices = begin + jnp.arange(work.batch_size)
                gradient = jax.grad(partial(minibatch_loss, posterior), argnums=0)(params, indices)
                return jax.tree.map(lambda w, g: w - 1e-6 * g, params, gradient)

            return jax.lax.fori_loop(0, steps, step, posterior.center)

        return jax.lax.map(chain, starts) if jax.default_backend() == "cpu" else jax.vmap(chain)(starts)

    starts = jnp.arange(chains)
    jax.block_until_ready(gradients(work.posterior, starts))
    began = time.perf_counter()
    jax.block_until_ready(gradients(work.posterior, starts))
    return steps * chains / (time.perf_counter() - began)


def _gradient_flops(work: Workload) -> float:
    """Floating-point operations of one minibatch gradient, as the compiler counts them."""
    gradient = jax.jit(jax.grad(partial(minibatch_loss), argnums=1))
    analysis = (
        gradient.lower(work.posterior, work.posterior.center, jnp.arange(work.batch_size)).compile().cost_analysis()
    )
    return float((analysis or {}).get("flops", float("nan")))


def trained(config: LRTStages, num_steps: int) -> Any:
    """Seed 1 of the regression transformer after `num_steps` of its training."""
    subject = lrt_subject(config, 1)
    assert subject.training_key is not None
    assert subject.optimizer is not None
    state = init_train_state(subject.init(), subject.optimizer)
    state, _ = full_precision()(train_steps)(
        subject.training_key, state, None, jnp.int32(num_steps), loss_fn=subject.loss_fn, batch_fn=subject.batches,
        update=subject.optimizer.update,
    )  # fmt: skip
    return state.params


def precision(config: LRTStages, num_steps: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The LLC of one checkpoint by the same chains in three precisions of matrix products, and the loss there."""
    subject, sampling, params = lrt_subject(config, 1), config.sampling, trained(config, num_steps)
    posterior = _posterior(config, params)
    rows: dict[str, Any] = {}
    for name, setting in PRECISIONS.items():
        try:
            with jax.default_matmul_precision(setting):
                began = time.perf_counter()
                samples = _draw(posterior, sampling, subject.chains_key)
                estimate = slt_jax.llc(samples)
                loss = float(jnp.mean(jax.jit(posterior.losses)(params, posterior.data)))
        except (jax.errors.JaxRuntimeError, ValueError) as error:  # a backend without this kind of product
            rows[name] = {"failed": str(error).splitlines()[0][:200]}
            continue
        seconds = time.perf_counter() - began
        rows[name] = {
            "LLC": estimate.mean, "standard error": estimate.std_error, "status": estimate.status, "loss at w*": loss,
            "seconds with compilation": seconds,
        }  # fmt: skip
        say(f"{name}: {estimate}; loss at w* {loss:.8f}; {seconds:.1f} s")
    return {"step": num_steps, "rows": rows, "done": True}


def _posterior(config: LRTStages, params: Any) -> LocalPosterior:
    subject, sampling = lrt_subject(config, 1), config.sampling
    data = subject.posterior_data(sampling.num_examples)
    return LocalPosterior(subject.loss_fn, data, params, sampling.nbeta, sampling.localization)


def _draw(posterior: LocalPosterior, sampling: Sampling, key: jax.Array) -> Any:
    return slt_jax.sample(
        key, posterior, slt_jax.sgld(sampling.batch_size), step_size=3e-4, num_chains=sampling.num_chains,
        num_draws=sampling.num_draws, num_burnin=sampling.num_burnin,
    )  # fmt: skip


def many_llcs(
    config: LRTStages, steps: Sequence[int], output: Output, scratch: Path, clock: Clock, say: Callable[[str], None]
) -> dict[str, Any]:
    """The LLC at many checkpoints of seed 1, all chains in one program; the state of chains that are not done is kept in `scratch`,
    where it is too large to be taken away."""
    kept, sampling = lrt_checkpoints(config, 1, output), config.sampling
    chosen = [step for step in steps if step in kept]
    if len(chosen) < len(steps):
        return {"waits for": f"{len(steps) - len(chosen)} checkpoints of the training", "done": False}
    centers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(kept[step] for step in chosen))
    scratch.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    try:
        found = slt_jax.sample_checkpoints(
            lrt_subject(config, 1).chains_key, _posterior(config, kept[chosen[0]]), centers,
            slt_jax.sgld(sampling.batch_size), step_size=3e-4, num_chains=sampling.num_chains, num_draws=sampling.num_draws,
            num_burnin=sampling.num_burnin, state_path=scratch / "llc.npz", should_stop=clock.over,
        )  # fmt: skip
    except Stopped as stopped:
        return {"stopped": str(stopped), "done": False}
    seconds = time.perf_counter() - began
    estimates = [slt_jax.llc(samples) for samples in found]
    for step, estimate in zip(chosen, estimates, strict=True):
        say(f"step {step:,}: {estimate}")
    rows = [
        {"step": step, "LLC": one.mean, "standard error": one.std_error, "R-hat": one.rhat, "status": one.status}
        for step, one in zip(chosen, estimates, strict=True)
    ]
    width = len(chosen) * sampling.num_chains
    made = width * (sampling.num_draws + sampling.num_burnin)
    return {"rows": rows, "chains": width, "seconds": seconds, "chain-steps/s": made / seconds, "done": True}


def at_size(width: int, num_steps: int, batch_size: int, sampling: Sampling) -> LRTStages:
    """The paper's config with another sampling, at another size for a rehearsal."""
    config = lrt_config(width, num_steps, batch_size)
    return LRTStages(model=config.model, training=config.training, sampling=sampling)
