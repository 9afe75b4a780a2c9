"""How fast the language model is, as ratios of times taken in one process: prints, asserts nothing.

    python benchmarks/language_model.py              three tables, a few minutes on one core
    python benchmarks/language_model.py --paper      the memory of the paper's setting instead (compiles it; runs nothing)

Times are the least of several rounds, in which what is compared takes turns.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax

from configs import lm_stages
from slt_jax.data.packing import TokenBatches
from slt_jax.models import language_model as lm
from slt_jax.models.layers import attention_pattern
from slt_jax.posterior import LocalPosterior, by_slice, restrict
from slt_jax.sampling.driver import sample, sample_restrictions
from slt_jax.sampling.sgld import sgld
from slt_jax.training.loop import init_train_state, train_steps
from slt_lab.measures.memory import estimate_memory
from slt_lab.subjects.language_model import adamw

BATCH, STEPS = 32, 5
SIZES = {"demo": lm.LanguageModel(32, 64, 64, 4), "cpu": lm.LanguageModel(1000, 128, 128, 4)}


def least_seconds(rounds: int, **contenders: Callable[[], Any]) -> dict[str, float]:
    """The least time of each; a first call, which compiles, does not count."""
    best = dict.fromkeys(contenders, float("inf"))
    for contender in contenders.values():
        jax.block_until_ready(contender())
    for _ in range(rounds):
        for name, contender in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(contender())
            best[name] = min(best[name], time.perf_counter() - start)
    return best


@partial(jax.jit, static_argnames=("loss", "batches"))
def bare_gradients(key: Any, params: Any, stream: Any, *, loss: Any, batches: Any) -> Any:
    """STEPS gradients at the same parameters, on fresh batches."""

    def step(index: Any, total: Any) -> Any:
        batch = batches(jax.random.fold_in(key, index), index, stream)
        value, gradient = jax.value_and_grad(lambda w: jnp.mean(loss(w, batch)))(params)
        # The gradient is used, or it would not be computed; nothing as large as a parameter is kept.
        return total + value + 1e-30 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(gradient))

    return jax.lax.fori_loop(0, STEPS, step, jnp.zeros(()))


def train_from(key: Any, params: Any, stream: Any, optimizer: Any, *, loss: Any, batches: Any) -> Any:
    """STEPS steps of training."""
    state = init_train_state(jax.tree.map(jnp.array, params), optimizer)  # a copy: the loop donates its state
    count = jnp.asarray(STEPS, jnp.int32)
    return train_steps(key, state, stream, count, loss_fn=loss, batch_fn=batches, update=optimizer.update)


def training(rounds: int) -> None:
    """`train_steps` beside a compiled loop of bare gradients of the same loss on batches drawn in the same way."""
    print("\ntraining, batch 32         tokens/s   bare gradient, tokens/s   time / bare gradient's")
    optimizer, key = optax.adamw(1e-3), jax.random.key(2)
    for name, model in SIZES.items():
        how = {"loss": lm.next_token_loss(model), "batches": TokenBatches(model.context, BATCH)}
        stream = jax.random.randint(jax.random.key(0), (100_000,), 0, model.vocab_size).astype(jnp.uint16)
        params = lm.init(jax.random.key(1), model)
        best = least_seconds(
            rounds,
            train=partial(train_from, key, params, stream, optimizer, **how),
            bare=partial(bare_gradients, key, params, stream, **how),
        )
        tokens = BATCH * model.context * STEPS
        rates = [tokens / best[which] for which in ("train", "bare")]
        print(f"{name:8} {rates[0]:26,.0f} {rates[1]:25,.0f} {best['train'] / best['bare']:24.2f}")


def plain_norm(x: Any, scale: Any, bias: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    normed = centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-5)
    return normed * scale + bias


def plain_attention(qkv: Any) -> Any:
    query, key, value = jnp.moveaxis(qkv, (2, 3), (0, 2))
    return jnp.moveaxis(attention_pattern(query, key) @ value, 1, 2)


def compiled_gradient(model: lm.LanguageModel, params: Any, tokens: Any) -> Any:
    """The gradient of the mean loss, compiled with whatever `lm` holds now; arguments may be shapes."""
    loss = lm.next_token_loss(model)
    return jax.jit(jax.grad(lambda w, t: jnp.mean(loss(w, {"tokens": t})))).lower(params, tokens).compile()


def automatic_backward() -> Any:
    """A context in which `lm` differentiates by JAX's own rules."""
    return mock.patch.multiple(lm, layer_norm=plain_norm, causal_attention=plain_attention)


def backward_passes(rounds: int) -> None:
    """The gradient with the hand-written backward passes of `models.layers`, and with JAX's own."""
    print("\ngradient, batch 32   hand-written, ms    automatic, ms    hand-written / automatic")
    for name, model in SIZES.items():
        params = lm.init(jax.random.key(0), model)
        tokens = jax.random.randint(jax.random.key(1), (BATCH, model.context), 0, model.vocab_size)
        ours = compiled_gradient(model, params, tokens)
        with automatic_backward():
            theirs = compiled_gradient(model, params, tokens)
        best = least_seconds(rounds, ours=partial(ours, params, tokens), theirs=partial(theirs, params, tokens))
        a, b = best["ours"], best["theirs"]
        print(f"{name:8} {1e3 * a:25.1f} {1e3 * b:16.1f} {a / b:22.2f}")


def refined(rounds: int) -> None:
    """All 16 heads of a layer in one program, and one after the other."""
    model = lm.LanguageModel(32, 64, 64, 16)
    tokens = jax.random.randint(jax.random.key(0), (1024, 64), 0, 32)
    posterior = LocalPosterior(
        lm.next_token_loss(model), {"tokens": tokens}, lm.init(jax.random.key(1), model), 30.0, 200.0
    )
    settings: dict[str, Any] = {"step_size": 1e-3, "num_chains": 2, "num_draws": 10}
    key, kernel, axes = jax.random.key(2), sgld(8), lm.head_axes(1)

    def together() -> Any:
        return [s.loss for s in sample_restrictions(key, posterior, by_slice(axes, jnp.arange(16)), kernel, **settings)]

    def apart() -> Any:
        return [sample(key, restrict(posterior, by_slice(axes, head)), kernel, **settings).loss for head in range(16)]

    cold = {}
    for name, contender in (("together", together), ("apart", apart)):
        start = time.perf_counter()
        contender()
        cold[name] = time.perf_counter() - start
    best = least_seconds(rounds, together=together, apart=apart)
    print("\nrefined LLC of 16 heads, 2 chains of 10 draws   one program, s    16 runs, s    16 runs / one program")
    for name, times in (("compilation included", cold), ("compiled", best)):
        print(f"{name:46} {times['together']:15.2f} {times['apart']:13.2f} {times['apart'] / times['together']:24.2f}")


def paper() -> None:
    """Bytes of the paper's programs."""
    config = lm_stages.paper()
    model = lm.LanguageModel(5000, 1024, 256, 8)
    params = jax.eval_shape(lambda key: lm.init(key, model), jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((config.training.batch_size, model.context), jnp.int32)
    ours = compiled_gradient(model, params, tokens).memory_analysis().temp_size_in_bytes
    with automatic_backward():
        theirs = compiled_gradient(model, params, tokens).memory_analysis().temp_size_in_bytes
    print(f"config paper, temporaries of a gradient: hand-written {ours / 1e9:.2f} GB, automatic {theirs / 1e9:.2f} GB")
    batches, optimizer = TokenBatches(model.context, config.training.batch_size), adamw(config.training)
    stream = jax.ShapeDtypeStruct((10**9,), jnp.uint16)
    found = estimate_memory(model, batches, stream, optimizer, config.sampling, config.refined)
    print(f"one billion tokens kept on the device: {found}")
    together = (replace(sampling, layout="vmap") for sampling in (config.sampling, config.refined))
    print(f"with chains side by side: {estimate_memory(model, batches, stream, optimizer, *together)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--paper", action="store_true", help="compile the paper's programs and print their memory")
    arguments = parser.parse_args()
    if arguments.paper:
        paper()
        return
    print(f"{jax.device_count()} x {jax.devices()[0].device_kind}")
    training(arguments.rounds)
    backward_passes(arguments.rounds)
    refined(arguments.rounds)


if __name__ == "__main__":
    main()
