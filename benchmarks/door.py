"""What people bring to the door, what it read before there was one, and what it reads now.

Each row is something a user does. A row passes if it reads the right number (within three standard errors), names a status,
or is refused in one sentence; a wrong number with status "ok" fails it, and the command then ends with exit code 1.

    python benchmarks/door.py

"before" was reported at commit 7ce24a4, on data and models of the same kinds, not on these very ones; R-hat was near 1 and the
status "ok" unless one is quoted.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from calibrated import digits

import slt_jax
from slt_jax.models import language_model
from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.training.loop import train

KEY = jax.random.key(0)
CURVATURES = jnp.array([10.0, 3.0, 1.0, 0.3, 0.1])


class Row(NamedTuple):
    """What a user does, what it read before, the right value (None: it must be refused or named), and how to do it."""

    what: str
    before: str
    right: float | None
    read: Callable[[], slt_jax.LLCEstimate | float]


def quadratic() -> slt_jax.LocalPosterior:
    """Exact LLC 2.431."""
    return slt_jax.LocalPosterior(
        lambda w, batch: jnp.broadcast_to(0.5 * jnp.sum(CURVATURES * w**2), batch.shape),
        jnp.zeros(2), jnp.zeros(5), 100.0, 1.0,
    )  # fmt: skip


QUADRATIC = float(0.5 * jnp.sum(100 * CURVATURES / (100 * CURVATURES + 1)))


def calibrated(posterior: slt_jax.LocalPosterior, kernel: slt_jax.Kernel, metric: bool = False, **options: int):
    """`calibrate`, then `sample`, then `llc`, with steps enough for the relaxation time that was found."""
    made = slt_jax.curvature_metric(KEY, posterior) if metric else None
    found = slt_jax.calibrate(KEY, posterior, kernel=kernel, metric=made)
    chosen = {"num_chains": 8, "num_draws": 1000, "thinning": max(1, found.num_burnin // 20)} | options
    samples = slt_jax.sample(
        KEY, posterior, kernel, step_size=found.step_size, metric=made, num_burnin=3 * found.num_burnin, layout="vmap",
        **chosen,
    )  # fmt: skip
    return slt_jax.llc(samples)


def quartic() -> slt_jax.LocalPosterior:
    """Σ w⁴ over four parameters at its centre: λ = 4 · 1/4."""
    return slt_jax.LocalPosterior(
        lambda w, batch: jnp.broadcast_to(jnp.sum(w**4), batch.shape), jnp.zeros(2), jnp.zeros(4), 1e4, 1.0
    )


def least_squares(n: int = 2000, noise: float = 1.0) -> slt_jax.LocalPosterior:
    """Four parameters, exact LLC 1.99."""
    keys = jax.random.split(jax.random.key(3), 2)
    x = jax.random.normal(keys[0], (n, 4))
    y = x @ jnp.arange(4.0) + noise * jax.random.normal(keys[1], (n,))
    center = jnp.linalg.lstsq(x, y)[0]
    return slt_jax.LocalPosterior(_squares, {"x": x, "y": y}, center, slt_jax.default_nbeta(n), 1.0)


def _squares(w: jax.Array, batch: dict) -> jax.Array:
    return 0.5 * (batch["x"] @ w - batch["y"]) ** 2


def estimated(posterior: slt_jax.LocalPosterior, **options: object) -> slt_jax.LLCEstimate:
    """`estimate_llc` with its defaults."""
    return slt_jax.estimate_llc(KEY, posterior.loss_fn, posterior.center, posterior.data, **options)


def with_loss(loss_fn: Callable) -> Callable[[], slt_jax.LLCEstimate]:
    """`estimate_llc` on the least squares with another loss."""
    return lambda: estimated(replace(least_squares(), loss_fn=loss_fn))


def moved(by: float) -> slt_jax.LocalPosterior:
    """The least squares with w* off its minimum."""
    posterior = least_squares()
    return replace(posterior, center=posterior.center + by)


def _dropout(w: jax.Array, batch: dict) -> jax.Array:
    kept = jax.random.bernoulli(jax.random.key(7), 0.9, batch["x"].shape)
    return 0.5 * ((batch["x"] * kept) @ w - batch["y"]) ** 2


def _contrastive(w: jax.Array, batch: dict) -> jax.Array:
    scores = (batch["x"] * w) @ batch["x"].T
    return jax.nn.logsumexp(scores, axis=1) - jnp.diagonal(scores)


def _batch_norm(w: jax.Array, batch: dict) -> jax.Array:
    x = (batch["x"] - batch["x"].mean(0)) / jnp.sqrt(batch["x"].var(0) + 1e-5)
    return 0.5 * (x @ w - batch["y"]) ** 2


def _weighted_by_place(w: jax.Array, batch: dict) -> jax.Array:
    return _squares(w, batch) * jnp.linspace(0.5, 1.5, len(batch["y"]))


def _divided_by_count(w: jax.Array, batch: dict) -> jax.Array:
    return _squares(w, batch) / len(batch["y"])


def _upper_half(losses: jax.Array) -> jax.Array:
    return jnp.where(losses > jnp.median(losses), losses, 0.0)


def _capacity(losses: jax.Array) -> jax.Array:
    return jnp.where(jnp.cumsum(losses > 1.0) <= 4, losses, 0.5 * losses)


@jax.custom_vjp
def _half_square(residual: jax.Array) -> jax.Array:
    return 0.5 * residual**2


def _backward(residual: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    shape = jax.ShapeDtypeStruct(residual.shape, residual.dtype)
    return (jax.pure_callback(lambda a, b: np.asarray(a * b), shape, residual, cotangent, vmap_method="sequential"),)


_half_square.defvjp(lambda residual: (_half_square(residual), residual), _backward)


def _once(w: jax.Array, batch: dict) -> jax.Array:
    return _half_square(batch["x"] @ w - batch["y"])


def fitted() -> slt_jax.LLCEstimate:
    """The digits network, flat at w* and stiff where its posterior lives; the right value is that of NUTS."""
    return estimated(digits().posterior)


def one_bad_example() -> slt_jax.LLCEstimate:
    """NaN in one target of 20,000."""
    posterior = least_squares(20_000)
    return estimated(replace(posterior, data={**posterior.data, "y": posterior.data["y"].at[12_345].set(jnp.nan)}))


def saddle() -> slt_jax.LLCEstimate:
    """½(w₁² - w₂²) + w₂⁴ at zero."""

    def loss(w: jax.Array, batch: jax.Array) -> jax.Array:
        return jnp.broadcast_to(0.5 * (w[0] ** 2 - w[1] ** 2) + w[1] ** 4, batch.shape)

    return slt_jax.estimate_llc(KEY, loss, jnp.zeros(2), jnp.zeros(1000), localization=1.0)


def state_offered(change: Callable[[slt_jax.LocalPosterior], tuple]) -> float:
    """A state file of one run offered to another."""
    posterior = least_squares(200)
    run = partial(slt_jax.sample, KEY, step_size=1e-3, num_chains=2, num_draws=20)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.npz"
        run(posterior, slt_jax.sgnht(8, friction=0.1), state_path=path)
        other, kernel, options = change(posterior)
        return float(run(other, kernel, state_path=path, **options).excess.mean())


def store_offered() -> float:
    """`train` on the store of another learning rate."""
    posterior = least_squares(200)
    with tempfile.TemporaryDirectory() as folder:
        for rate in (0.1, 0.2):
            state = train(
                KEY, _squares, posterior.center, _whole, optax.adam(rate), num_steps=3, store=CheckpointStore(folder),
                save_at=[3], data=posterior.data,
            )  # fmt: skip
    return float(state.params[0])


def _whole(key: jax.Array, step: jax.Array, data: dict) -> dict:
    del key, step
    return data


def other_shapes(like: dict) -> float:
    """`CheckpointStore.params` with another `like`."""
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(folder)
        store.save(5, {"w": jnp.ones((2, 3))}, {"w": jnp.ones((2, 3))})
        store.wait()
        return float(store.params(5, like)["w"].sum())


def padding(pad: int) -> float:
    """The slope of the language model's loss in one bias, beside its finite difference."""
    model = language_model.LanguageModel(7, 6, 8, 2, 1)
    params = language_model.init(KEY, model)
    tokens = jnp.asarray([[1, 2, 3, 4, pad, pad]])
    loss = jax.jit(language_model.next_token_loss(model))

    def at(bias: float) -> jax.Array:
        return loss({**params, "unembedding_bias": params["unembedding_bias"].at[6].set(bias)}, {"tokens": tokens})[0]

    return float(jax.grad(at)(0.0) / ((at(1e-2) - at(-1e-2)) / 2e-2))


ROWS = [
    Row("calibrate + sgld()", "not tried", QUADRATIC, lambda: calibrated(quadratic(), slt_jax.sgld(None))),
    Row("calibrate + sgld(rmsprop())", "3.146 ± 0.066", QUADRATIC, lambda: calibrated(quadratic(), slt_jax.sgld(None, slt_jax.rmsprop()))),
    Row("calibrate + sgld(adam(0.5))", "8.62 ± 0.18 (adam())", QUADRATIC, lambda: calibrated(quadratic(), slt_jax.sgld(None, slt_jax.adam(0.5)))),
    Row("calibrate + underdamped()", "1.89 ± 0.48, R-hat 1.35", QUADRATIC, lambda: calibrated(quadratic(), slt_jax.underdamped(None))),
    Row("calibrate + averaged SGLD + metric", "1.06 ± 0.38, R-hat 2.54", QUADRATIC, lambda: calibrated(quadratic(), slt_jax.sgld(None, integrator="leimkuhler_matthews"), metric=True)),
    Row("calibrate + sgnht() + metric", "not tried", QUADRATIC, lambda: calibrated(quadratic(), slt_jax.sgnht(None), metric=True)),
    Row("rmsprop() without burn-in", "not tried", QUADRATIC, lambda: slt_jax.llc(slt_jax.sample(KEY, quadratic(), slt_jax.sgld(None, slt_jax.rmsprop()), step_size=1e-4, num_draws=2000))),
    Row("calibrate where the Hessian vanishes", "diverged", 1.0, lambda: calibrated(quartic(), slt_jax.sgld(None, integrator="leimkuhler_matthews"))),
    *(Row(f"least squares, batch_size {size}", before, 1.99, partial(lambda b: estimated(least_squares(), batch_size=b), size)) for size, before in ((4, "13.8"), (16, "4.69"), (64, "2.59"), (256, "2.08"))),
    Row("w* one unit off the minimum", "-541 ± 1.2", None, lambda: estimated(moved(1.0))),
    Row("w* slightly off the minimum", "not tried", None, lambda: estimated(moved(0.1))),
    Row("a saddle", "-6,081", None, saddle),
    Row("dropout with its key inside the loss", "-16,410 ± 210", None, with_loss(_dropout)),
    Row("an in-batch contrastive loss", "-2,179 ± 0.95", None, with_loss(_contrastive)),
    Row("BatchNorm in training mode", "NaN: smaller step_size", None, with_loss(_batch_norm)),
    Row("a loss weighted by place in the batch", "not tried", None, with_loss(_weighted_by_place)),
    Row("a loss divided by the batch size", "not tried", None, with_loss(_divided_by_count)),
    Row("a loss of the upper half of the batch", "not tried", None, with_loss(lambda w, b: _upper_half(_squares(w, b)))),
    Row("a capacity of four examples", "not tried", None, with_loss(lambda w, b: _capacity(_squares(w, b)))),
    Row("a sweep over a step that heats", "not tried", None, lambda: slt_jax.sweep(KEY, least_squares(), slt_jax.sgld(4), step_sizes=[1e-3]).estimates[0, 0, 0]),
    Row("a sweep with dropout", "not tried", None, lambda: slt_jax.sweep(KEY, replace(least_squares(), loss_fn=_dropout), slt_jax.sgld(64), step_sizes=[1e-5]).estimates[0, 0, 0]),
    Row("a head off its minimum", "not tried", None, lambda: slt_jax.llc(slt_jax.sample_restrictions(KEY, moved(0.1), slt_jax.by_slice({"*": 0}, jnp.arange(4)), slt_jax.sgld(64), step_size=1e-4)[0])),
    Row("a gradient rule of its own", "not tried", None, with_loss(_once)),
    Row("absolute errors", "not tried", None, with_loss(lambda w, b: jnp.abs(b["x"] @ w - b["y"]))),
    Row("a loss that is infinite for some", "not tried", None, with_loss(lambda w, b: jnp.where(b["x"][:, 0] > 2.9, jnp.inf, _squares(w, b)))),
    Row("losses in float16", "not tried", 1.99, with_loss(lambda w, b: _squares(w, b).astype(jnp.float16))),
    Row("a network that fits its data (digits)", "not tried", 38.7, fitted),
    Row("one NaN example of 20,000", "NaN: smaller step_size", None, one_bad_example),
    Row("NaN in w*", "NaN: smaller step_size", None, lambda: estimated(moved(float("nan")))),
    Row("1e6 added to every loss", "2.82 ± 0.29", 1.99, with_loss(lambda w, b: 1e6 + _squares(w, b))),
    Row("the same, full batch", "17.6 ± 0.8", 1.99, lambda: estimated(replace(least_squares(), loss_fn=lambda w, b: 1e6 + _squares(w, b)), batch_size=None)),
    Row("losses in bfloat16", "not tried", 1.99, with_loss(lambda w, b: _squares(w, b).astype(jnp.bfloat16))),
    Row("parameters in bfloat16", "a long traceback", None, lambda: slt_jax.estimate_llc(KEY, _squares, least_squares().center.astype(jnp.bfloat16), least_squares().data)),
    Row("very few draws", "a number", None, lambda: estimated(least_squares(), num_draws=20)),
    Row("a state file of another batch size", "the old numbers", None, lambda: state_offered(lambda p: (p, slt_jax.sgnht(4, friction=0.1), {}))),
    Row("a state file of another loss", "1.417 for 8.085", None, lambda: state_offered(lambda p: (replace(p, loss_fn=lambda w, b: 2 * _squares(w, b)), slt_jax.sgnht(8, friction=0.1), {}))),
    Row("a state file of another friction", "the old numbers", None, lambda: state_offered(lambda p: (p, slt_jax.sgnht(8, friction=0.2), {}))),
    Row("a state file of another observable", "the old numbers", None, lambda: state_offered(lambda p: (p, slt_jax.sgnht(8, friction=0.1), {"observables": {"norm": jnp.sum}}))),
    Row("train on a store of another rate", "the old weights", None, store_offered),
    Row("params of a store, other shapes", "the stored shapes", None, lambda: other_shapes({"w": np.zeros((3, 3), np.float32)})),
    Row("params of a store, int like", "weights cut to integers", None, lambda: other_shapes({"w": np.zeros((2, 3), np.int32)})),
    Row("language model, padding -1: slope/true", "-0.42", 1.0, lambda: padding(-1)),
    Row("language model, padding -100", "NaN loss", 1.0, lambda: padding(-100)),
]  # fmt: skip


def verdict(row: Row) -> tuple[str, bool]:
    """What the row reads now, and whether that may be."""
    try:
        read = row.read()
    except (ValueError, TypeError) as error:
        return f"refused: {error}", "\n" not in str(error)
    if isinstance(read, float):
        return f"{read:.3f}", row.right is not None and abs(read - row.right) < 0.01 * abs(row.right)
    right = row.right is not None and abs(read.mean - row.right) <= 3 * read.std_error
    return str(read), right or read.status != "ok"


def main() -> int:
    """Print the table."""
    warnings.simplefilter("ignore")
    failed = 0
    print(f"{'what a user does':42}{'before':26}{'right':>7}  now")
    for row in ROWS:
        now, passes = verdict(row)
        failed += not passes
        right = "status" if row.right is None else f"{row.right:.3f}"
        print(f"{row.what:42}{row.before:26}{right:>7}  {'' if passes else 'WRONG: '}{now}", flush=True)
    print(f"{len(ROWS)} rows, {failed} with a wrong number and status ok")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
