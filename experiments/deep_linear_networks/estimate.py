"""Estimates of a group of networks by one setting.

Networks of similar size are padded to one shape (`models.deep_linear.pack`) and are an axis of one compiled program: with
one program per network, compilation costs as much as 10,000 steps.
"""

import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from configs.deep_linear_networks import Setting, SizeClass
from slt_jax.data.linear import DeepLinearTeacher, block_moments
from slt_jax.estimators.llc import RUNAWAY
from slt_jax.models.deep_linear import pack, packed_squared_error
from slt_jax.posterior import LocalPosterior, Restriction, default_nbeta, restrict
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.calibration import top_curvature
from slt_jax.sampling.chains import init_chain
from slt_jax.sampling.chains import run as run_chain
from slt_jax.sampling.diagnostics import excursions, monte_carlo_std_error
from slt_jax.sampling.metrics import Metric, curvature_metric, products_spent
from slt_jax.sampling.preconditioners import adam, rmsprop
from slt_jax.sampling.sgld import sgld
from slt_jax.sampling.sgnht import sgnht
from slt_jax.sampling.underdamped import underdamped

__all__ = ["COURSE_PARTS", "STUDY_BATCH", "estimate_group", "kernel_of"]

CURVATURE_BLOCKS = 1  # of examples, for curvature at w*: a Hessian-vector product then counts as two gradients
CALIBRATION_PRODUCTS = 41
STUDY_BATCH = 500  # examples to a block; a gradient evaluation is the gradient of one block
MAX_RANK = 128
SLOT_UNIT = 4096  # sampled vectors are padded to a multiple of this, so that few programs serve all groups
COURSE_PARTS = 20  # a trace is stored as the means of this many parts
WIDTH_UNIT = 50
DATA, CALIBRATION, METRIC, CHAIN, SECOND_CHAIN = range(5)  # streams of a network's key


class Member(NamedTuple):
    """A network of a group, as the compiled program takes it; leaves gain a leading network axis."""

    params: Any
    restriction: Restriction


def kernel_of(setting: Setting) -> Kernel:
    """The transition kernel of a setting."""
    batch = setting.batch_size // STUDY_BATCH
    kernels: dict[str, Callable[[], Kernel]] = {
        "sgld": lambda: sgld(batch),
        "leimkuhler_matthews": lambda: sgld(batch, integrator="leimkuhler_matthews"),
        "rmsprop": lambda: sgld(batch, rmsprop()),
        "adam": lambda: sgld(batch, adam()),
        "sgnht": lambda: sgnht(batch, setting.friction),
        "underdamped": lambda: underdamped(batch),
    }
    return kernels[setting.kernel]()


def estimate_group(
    size_class: SizeClass, setting: Setting, group: list[tuple[int, DeepLinearTeacher]]
) -> dict[str, np.ndarray]:
    """One estimate per network of the group, from one chain each, or the larger of two; a leading network axis.

    `seconds` is a network's share of the group's time, compilation included.
    """
    started = time.perf_counter()
    members, data = _padded(group, size_class.num_examples)
    keys = [jax.random.fold_in(jax.random.key(seed), size_class.num_examples) for seed, _ in group]
    nbeta = setting.nbeta_factor * default_nbeta(size_class.num_examples)
    posteriors = [_posterior(member, data, nbeta, setting.localization) for member in members]
    metrics, ranks, products = _metrics(setting, keys, posteriors)
    step_sizes = np.array([_step_size(size_class, setting, *pair) for pair in zip(keys, posteriors, strict=True)])
    products = products + (CALIBRATION_PRODUCTS if _needs_curvature(setting) else 0)
    sampled = partial(_chains, size_class, setting, group, keys, members, step_sizes, data)
    rows = sampled(CHAIN, metrics, nbeta)
    if setting.second_nbeta_factor is not None:
        assert metrics is not None, "second_nbeta_factor needs the metric"
        times = setting.second_nbeta_factor / setting.nbeta_factor
        second = sampled(SECOND_CHAIN, _at_larger_nbeta(metrics, times), times * nbeta)
        rows = [_larger(*pair) for pair in zip(rows, second, strict=True)]
    seconds = (time.perf_counter() - started) / len(group)
    num_chains = 1 if setting.second_nbeta_factor is None else 2
    num_steps = num_chains * (setting.num_steps or size_class.study_steps)
    gradients = num_steps * setting.batch_size / STUDY_BATCH + 2 * CURVATURE_BLOCKS * products
    return {
        "seed": np.array([seed for seed, _ in group]),
        **{name: np.stack([row[name] for row in rows]) for name in rows[0]},
        "step_size": step_sizes,
        "gradient_evaluations": gradients * np.ones(len(group)),
        "metric_rank": np.asarray(ranks, np.float64),
        "seconds": np.full(len(group), seconds),
    }


def _padded(group: list[tuple[int, DeepLinearTeacher]], num_examples: int) -> tuple[list[Member], dict[str, jax.Array]]:
    """The networks of a group padded to one shape, and the inputs they share."""
    entries = max(sum(matrix.size for matrix in network.matrices) for _, network in group)
    shape = {
        "num_layers": max(len(network.matrices) for _, network in group),
        "width": -(-max(max(network.widths) for _, network in group) // WIDTH_UNIT) * WIDTH_UNIT,
        "slots": -(-entries // SLOT_UNIT) * SLOT_UNIT,
    }
    return [_member(network, shape) for _, network in group], _inputs(shape["width"], num_examples)


def _chains(
    size_class: SizeClass,
    setting: Setting,
    group: list[tuple[int, DeepLinearTeacher]],
    keys: list[jax.Array],
    members: list[Member],
    step_sizes: np.ndarray,
    data: Any,
    stream: int,
    metrics: Metric | None,
    nbeta: float,
) -> list[dict[str, np.ndarray]]:
    """What one chain per network at `nbeta` says, one row a network."""
    losses, finite = _sample(
        jnp.stack([jax.random.fold_in(key, stream) for key in keys]),
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *members),
        jnp.asarray(step_sizes, jnp.float32),
        metrics,
        data,
        jnp.float32(nbeta),
        jnp.float32(setting.localization),
        kernel=kernel_of(setting),
        num_steps=setting.num_steps or size_class.study_steps,
    )
    values = nbeta * np.asarray(losses, np.float64)  # L_n(w*) = 0: the teacher is the network itself
    return [
        _summarise(values[i], bool(finite[i]), setting, sum(matrix.size for matrix in network.matrices))
        for i, (_, network) in enumerate(group)
    ]


def _at_larger_nbeta(metrics: Metric, times: float) -> Metric:
    """The metric at `times` the nβ: curvature and damping grow alike (γ, the damping's floor, is far below it)."""
    return Metric(metrics.directions, metrics.scales / times, metrics.rest / times)


def _larger(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The chain whose estimate is larger: a chain that has not mixed and one that is not local both read low.

    A chain that diverged or made an excursion is taken only if the other one did worse.
    """

    def rank(row: dict[str, np.ndarray]) -> tuple[float, float, float]:
        return -float(row["llc_diverged"]), -float(row["excursion"]), float(np.nan_to_num(row["llc"]))

    return max(first, second, key=rank)


@lru_cache(maxsize=1)
def _inputs(width: int, num_examples: int) -> dict[str, jax.Array]:
    """x ~ U[-10, 10] in blocks; networks share it and use as many coordinates as they have inputs."""
    return {"moments": block_moments(jax.random.key(DATA), width, num_examples, STUDY_BATCH)}


def _member(network: DeepLinearTeacher, shape: dict[str, int]) -> Member:
    params, restriction = pack(network.matrices, **shape)
    return Member(params, Restriction(*restriction))


def _posterior(member: Member, data: Any, nbeta: Any, localization: Any) -> LocalPosterior:
    return restrict(LocalPosterior(packed_squared_error, data, member.params, nbeta, localization), member.restriction)


def _needs_curvature(setting: Setting) -> bool:
    return setting.step == "calibrated" and not setting.metric


def _step_size(size_class: SizeClass, setting: Setting, key: jax.Array, posterior: LocalPosterior) -> float:
    """In the kernel's own meaning: ε, or the integrator's step h of dynamics with momentum."""
    if setting.step == "study":
        return size_class.study_step_size
    kernel = kernel_of(setting)
    if setting.metric:  # in its units the stiffest curvature is 1
        return kernel.step_for(1.0, setting.step_fraction)
    blocks = {"num_chunks": CURVATURE_BLOCKS, "chunk": CURVATURE_BLOCKS}
    top = float(top_curvature(jax.random.fold_in(key, CALIBRATION), posterior, **blocks))
    return kernel.step_for(top + setting.localization, setting.step_fraction)


def _metrics(
    setting: Setting, keys: list[jax.Array], posteriors: list[LocalPosterior]
) -> tuple[Metric | None, np.ndarray, np.ndarray]:
    """The networks' metrics, padded with zero columns to one rank, with ranks and Hessian-vector products spent."""
    if not setting.metric:
        return None, np.zeros(len(keys)), np.zeros(len(keys))
    found = [
        curvature_metric(jax.random.fold_in(key, METRIC), posterior, max_rank=MAX_RANK, num_examples=CURVATURE_BLOCKS)
        for key, posterior in zip(keys, posteriors, strict=True)
    ]
    ranks = np.array([len(metric.scales) for metric in found])
    rank = -(-int(ranks.max()) // 64) * 64
    padded = [
        Metric(
            jnp.pad(metric.directions, ((0, 0), (0, rank - len(metric.scales)))),
            jnp.pad(metric.scales, (0, rank - len(metric.scales)), constant_values=1.0),
            metric.rest,
        )
        for metric in found
    ]
    return (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded),
        ranks,
        np.array([products_spent(int(r), max_rank=MAX_RANK) for r in ranks]),
    )


@partial(jax.jit, static_argnames=("kernel", "num_steps"))
def _sample(
    keys: jax.Array,
    members: Member,
    step_sizes: jax.Array,
    metrics: Metric | None,
    data: Any,
    nbeta: jax.Array,
    localization: jax.Array,
    *,
    kernel: Kernel,
    num_steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Losses `(network, step)` of one chain per network, and whether they stayed finite."""

    def one(key: jax.Array, member: Member, step_size: jax.Array, metric: Metric | None) -> tuple[jax.Array, jax.Array]:
        posterior = _posterior(member, data, nbeta, localization)
        chain = init_chain(key, posterior, kernel)
        chain, trace = run_chain(
            chain, posterior, kernel, step_size=step_size, num_draws=num_steps, metric=metric, record_center_loss=False
        )
        return trace.loss, chain.finite

    return jax.vmap(one)(keys, members, step_sizes, metrics)


def _summarise(values: np.ndarray, finite: bool, setting: Setting, num_parameters: int) -> dict[str, np.ndarray]:
    """λ̂, its error and its course from nβL along one chain; a chain that diverged is NaN, never its finite part."""
    kept = values[len(values) - round(setting.kept_share * len(values)) :]
    with np.errstate(invalid="ignore", over="ignore"):
        mean = kept.mean()
        course = np.array([part.mean() for part in np.array_split(values, COURSE_PARTS)])
    diverged = not finite or not np.isfinite(mean) or mean > RUNAWAY * num_parameters
    return {
        "llc": np.asarray(np.nan if diverged else mean),
        "llc_std_error": np.asarray(np.nan if diverged else monte_carlo_std_error(kept[None])),
        "llc_diverged": np.asarray(diverged),
        "excursion": np.asarray(not diverged and bool(excursions(kept[None])[0])),
        "llc_course": np.where(diverged, np.nan, course),
    }
