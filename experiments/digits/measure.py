"""The computing half of `digits`: train, sample with everything, and with NUTS on the same posterior."""

import time
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.flatten_util import ravel_pytree

from configs.digits import Digits
from experiments.digits.gather import Row, gather
from experiments.digits.network import Perceptron, Split, accuracy, check_trained, cross_entropy, load_digits, train
from slt_jax.posterior import LocalPosterior, default_nbeta
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample
from slt_jax.sampling.sampler import Sampler
from slt_jax.typing import Params
from slt_lab.comparison import Compared, named, samplers, slug, stored_neighbourhood
from slt_lab.folder import RunFolder
from slt_lab.measures.llc import estimate
from slt_lab.nuts import FEWEST_DRAWS, FEWEST_WARMUP, nuts_llc
from slt_lab.settings import require
from slt_lab.work import sampling_options

__all__ = ["check", "run"]

TRAIN_KEY, PILOT_KEY, TUNE_KEY, CHAINS_KEY, NUTS_KEY = range(5)


def check(config: Digits) -> None:
    """Refuse samplers that do not exist, and numbers from which nothing can be estimated."""
    chosen_samplers(config)
    load_digits(config.network.num_examples, config.seed)
    sampling, nuts = config.sampling, config.nuts
    if sampling.nbeta is None:
        default_nbeta(config.network.num_examples)
    require(
        sampling.localization > 0, "sampling.localization = 0; the pilot starts from the prior and needs it positive"
    )
    require(sampling.num_draws >= 4, f"sampling.num_draws = {sampling.num_draws}; a standard error needs at least 4")
    require(
        nuts.num_warmup >= FEWEST_WARMUP, f"nuts.num_warmup = {nuts.num_warmup}; it must be at least {FEWEST_WARMUP}"
    )
    require(nuts.num_draws >= FEWEST_DRAWS, f"nuts.num_draws = {nuts.num_draws}; it must be at least {FEWEST_DRAWS}")


def run(config: Digits, folder: RunFolder) -> tuple[xarray.Dataset, list[str]]:
    """Compute whatever is not in `folder` yet; with one sentence for every sampler that has a diverged chain."""
    split = load_digits(config.network.num_examples, config.seed)
    params, training = _trained(config, folder, split)
    nbeta = config.sampling.nbeta or default_nbeta(config.network.num_examples)
    posterior = LocalPosterior(cross_entropy, split.train, params, nbeta, config.sampling.localization)
    chosen = chosen_samplers(config)
    rows: dict[str, Row] = {}
    with progress_bar("digits", len(chosen) + 1) as update:
        nuts = folder.piece("nuts", lambda: _nuts(config, posterior))
        update(1, f"NUTS: LLC {float(nuts['mean']):.2f}")
        for number, sampler in enumerate(chosen):
            rows[sampler.name] = _estimate(config, folder, posterior, sampler, number)
            update(number + 2, f"{sampler.name}: LLC {float(rows[sampler.name]['llc']):.2f}")
            results = gather(nbeta, training, rows, nuts)
            folder.write_results(results)  # after every sampler, so that a report can be had before the end
    return results, [f"{name}: {row['llc_status']}" for name, row in rows.items() if row["llc_diverged"].any()]


def chosen_samplers(config: Digits) -> list[Compared]:
    """Those of the configuration; by default all with full gradients, then those meant for minibatches with minibatches.

    Adam's step is a tenth of RMSProp's, so it takes ten times as many; a third of that step shows its lag bias shrink.
    """
    size = config.sampling.batch_size
    full = [s._replace(patience=10) if s.name == "Adam-SGLD" else s for s in samplers(None)]
    gentle = [
        Compared(f"{s.name}, a third of the step", _shorter(s.sampler, 3), patience=30)
        for s in full
        if s.name == "Adam-SGLD"
    ]
    noisy = [s for s in samplers(size) if s.name in ("SGLD, Leimkuhler-Matthews", "SGNHT", "metric SGLD")]
    every = [*full, *gentle, *(s._replace(name=f"{s.name}, batch {size}") for s in noisy)]
    return named(every, config.sampling.samplers)


def _shorter(sampler: Sampler, times: float) -> Sampler:
    assert sampler.step_fraction is not None
    return replace(sampler, step_fraction=sampler.step_fraction / times)


def _key(config: Digits, *numbers: int) -> jax.Array:
    key = jax.random.key(config.seed)
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def _trained(config: Digits, folder: RunFolder, split: Split) -> tuple[Params, Row]:
    """The trained parameters, and how training went."""

    def compute() -> dict[str, Any]:
        params, losses = train(_key(config, TRAIN_KEY), split.train, config.network)
        check_trained(losses)
        final, gradient = jax.value_and_grad(lambda p: jnp.mean(cross_entropy(p, split.train)))(params)
        return {
            "params": ravel_pytree(params)[0], "losses": losses, "loss": final,
            "gradient_norm": jnp.linalg.norm(ravel_pytree(gradient)[0]),
            "train_accuracy": accuracy(params, split.train), "test_accuracy": accuracy(params, split.test),
        }  # fmt: skip

    stored = folder.piece("training", compute)
    like = Perceptron(config.network.hidden_units).init(_key(config, TRAIN_KEY), split.train["image"][:1])
    return ravel_pytree(like)[1](jnp.asarray(stored["params"])), stored


def _estimate(config: Digits, folder: RunFolder, posterior: LocalPosterior, sampler: Compared, number: int) -> Row:
    sampling, times = config.sampling, sampler.patience

    def compute() -> dict[str, Any]:
        started = time.perf_counter()
        found = stored_neighbourhood(
            folder, "pilot", _key(config, PILOT_KEY), posterior, batch_size=None, num_chains=sampling.num_chains,
            num_steps=sampling.pilot_steps,
        )  # fmt: skip
        tuned = sampler.sampler.tune(_key(config, TUNE_KEY, number), posterior, neighbourhood=found)
        samples = sample(
            _key(config, CHAINS_KEY, number), posterior, tuned, num_chains=sampling.num_chains,
            num_burnin=times * sampling.num_burnin, num_draws=sampling.num_draws, thinning=times * sampling.thinning,
            **sampling_options(),
        )  # fmt: skip
        nbeta = samples.nbeta[:, None]
        return {
            **estimate(samples),
            "llc_trace": (nbeta * samples.excess).astype(np.float32),
            "llc_burnin_trace": (nbeta * samples.burnin_excess).astype(np.float32)[:, ::times],
            "step_size": samples.step_size[0],
            "metric_rank": 0 if tuned.metric is None else tuned.metric.scales.size,
            "gradients": _gradients(config, sampler),
            "seconds": time.perf_counter() - started,
        }

    return folder.piece(f"estimates/{slug(sampler)}", compute)


def _gradients(config: Digits, sampler: Compared) -> float:
    """Passes over all the data that its chains take, burn-in included."""
    sampling, batch_size = config.sampling, sampler.sampler.kernel.batch_size
    steps = sampler.patience * (sampling.num_burnin + sampling.num_draws * sampling.thinning)
    return sampling.num_chains * steps * (1.0 if batch_size is None else batch_size / config.network.num_examples)


def _nuts(config: Digits, posterior: LocalPosterior) -> dict[str, Any]:
    nuts = config.nuts
    started = time.perf_counter()
    estimate = nuts_llc(
        _key(config, NUTS_KEY), posterior, num_chains=nuts.num_chains, num_warmup=nuts.num_warmup,
        num_draws=nuts.num_draws,
    )  # fmt: skip
    return {**estimate._asdict(), "seconds": time.perf_counter() - started}
