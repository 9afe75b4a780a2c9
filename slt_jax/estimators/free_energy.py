"""Free energies by integration over nβ, all nodes in one program, and what compares phases by them.

    F(nβ) = -log ∫ exp(-nβ L_n(w)) dprior,   prior N(w*, I/γ), normalised, so that F(0) = 0 and dF/dnβ = E[L_n]

At the lowest node F is a mean over exact draws of that Gaussian; from there it is the integral of nβ·E[L_n] over log nβ. The
trapezoid's error is corrected by the integrand's slope at its ends, nβ·E[L_n] - (nβ)²·Var(L_n), which the chains know too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from numpy.typing import ArrayLike

from slt_jax.arguments import describe
from slt_jax.estimators.fluctuation import (
    Fluctuation,
    ScalarEstimate,
    fluctuation,
    heat_capacity,
    two_temperature_lambda,
    wbic,
)
from slt_jax.estimators.integration import FreeEnergy, Lowest, integrate, integration_weights
from slt_jax.posterior import LocalPosterior, example_losses
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.calibration import calibrate
from slt_jax.sampling.driver import sample_chains
from slt_jax.sampling.pilot import find_neighbourhood
from slt_jax.sampling.sampler import Sampler
from slt_jax.sampling.samples import ChainSettings, Samples
from slt_jax.sampling.tuned import Tuned
from slt_jax.typing import Array, PRNGKey

__all__ = [
    "Fluctuation",
    "FreeEnergy",
    "Phases",
    "ScalarEstimate",
    "fluctuation",
    "free_energy",
    "heat_capacity",
    "integration_weights",
    "phase_difference",
    "phase_fractions",
    "two_temperature_lambda",
    "wbic",
]


class Phases(NamedTuple):
    """What free energies say of phases at the nodes they share; arrays `(..., node)`.

    Attributes:
        nbeta: nβ of the nodes.
        value: the quantity.
        std_error: its standard error.

    Example:
        >>> import numpy as np
        >>> from slt_jax.estimators.free_energy import Phases
        >>> Phases(np.array([1.0, 10.0]), np.array([-0.1, 0.4]), np.array([0.01, 0.02])).value.tolist()
        [-0.1, 0.4]
    """

    nbeta: np.ndarray
    value: np.ndarray
    std_error: np.ndarray


def free_energy(
    key: PRNGKey,
    posterior: LocalPosterior,
    sampler: Kernel | Sampler,
    nbetas: ArrayLike,
    *,
    step_sizes: ArrayLike | Callable[[float], float] | None = None,
    num_chains: int = 4,
    num_draws: int = 1000,
    num_gaussian_draws: int = 4096,
    pilot_steps: int = 1000,
    chunk_size: int = 4096,
    **options: Any,
) -> FreeEnergy:
    """F(nβ) at `nbetas`, every node a group of chains, all of one compiled program.

    Args:
        key: typed PRNG key.
        posterior: its γ is the precision of the prior and must be positive; its nβ is not used.
        sampler: moves the chains; the loss of all data is evaluated at every draw, so thin. A `Sampler` is tuned at every
            node where its posterior lives (`pilot_steps`), and brings its own steps, burn-in and metric; with a metric
            the nodes are run one after the other.
        nbetas: increasing and positive, evenly spaced in log nβ by preference. The lowest must be so small that
            exp(-nβ L_n) hardly varies under the Gaussian; the status says so if it is not.
        step_sizes: of a kernel: one per node, or a function of nβ, in the kernel's own meaning; default `calibrate` at
            each node, which knows the curvature at w* alone: a singular model needs steps that are stable where its
            chains go, or a `Sampler`, which finds them.
        num_chains, num_draws: per node.
        num_gaussian_draws: exact draws of the Gaussian, each a pass over the data.
        pilot_steps: steps of the short chains that look for the stiffest curvature before a `Sampler` is tuned; 0 takes
            the curvature at w* alone.
        chunk_size: examples per pass; no result depends on it.
        options: as in `sample`: `num_burnin`, `thinning`, `metric`, `layout`, `progress`, `state_path`, ...

    Raises:
        TypeError: if nbetas are not numbers.
        ValueError: if γ is 0, nbetas are not at least two positive increasing numbers, or a `Sampler` is given step sizes
            or a metric beside its own.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, slt_jax
        >>> def loss_fn(w, batch): return jnp.broadcast_to(0.5 * w**2, batch.shape)
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.zeros(1), jnp.zeros(()), 1.0, 1.0)
        >>> found = slt_jax.free_energy(jax.random.key(0), posterior, slt_jax.sgld(None), np.geomspace(0.01, 10, 5),
        ...                             step_sizes=lambda nbeta: 0.3 / (1 + nbeta), num_draws=500, thinning=10)
        >>> found.value.shape  # F = log(1 + nbeta)/2
        (5,)
    """
    try:
        nodes = np.asarray(nbetas, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"nbetas is {describe(nbetas)}; give at least two positive numbers, increasing") from None
    if nodes.ndim != 1 or len(nodes) < 2 or not (nodes[0] > 0 and (np.diff(nodes) > 0).all()):
        raise ValueError(f"nbetas = {nodes.tolist()}; give at least two positive numbers, increasing")
    if not float(posterior.localization) > 0:
        raise ValueError("localization = 0 leaves no prior to integrate over; F needs localization > 0")
    calibration_key, gaussian_key, chain_key = jax.random.split(key, 3)
    tuned = _tuned(calibration_key, posterior, sampler, nodes, step_sizes, pilot_steps, options)
    center_losses = example_losses(posterior, posterior.center, chunk_size)
    excess = Partial(_MeanExcess(chunk_size), posterior, center_losses)
    at_center = float(np.mean(np.asarray(center_losses), dtype=np.float64))
    lowest = _gaussian_free_energy(gaussian_key, posterior, excess, float(nodes[0]), num_gaussian_draws)
    samples = _sample_nodes(
        chain_key, posterior, tuned, nodes, num_chains=num_chains, num_draws=num_draws, observables={"excess": excess},
        **options,
    )  # fmt: skip
    return integrate(nodes, samples, num_chains, at_center, lowest)


def _sample_nodes(
    key: PRNGKey, posterior: LocalPosterior, tuned: list[Tuned], nodes: np.ndarray, *, num_chains: int, **options: Any
) -> list[Samples]:
    """Chains at every node: of one run, or, where every node has its metric, of a run for each of the same program."""
    groups = [range(len(nodes))] if tuned[0].metric is None else [[index] for index in range(len(nodes))]
    options.setdefault("num_burnin", max(one.num_burnin for one in tuned))
    state_path = options.pop("state_path", None)
    found = []
    for number, group in enumerate(groups):
        steps, at = (
            jnp.repeat(jnp.asarray(values, jnp.float32), num_chains)
            for values in ([tuned[index].step_size for index in group], nodes[list(group)])
        )
        settings = ChainSettings(steps, at, jnp.full_like(steps, posterior.localization))
        if tuned[group[0]].metric is not None:
            options["metric"] = tuned[group[0]].metric
        path = state_path if state_path is None or len(groups) == 1 else f"{state_path}.{number}"
        own = key if len(groups) == 1 else jax.random.fold_in(key, number)
        found.append(sample_chains(own, posterior, tuned[0].kernel, settings, state_path=path, **options))
    return found


@dataclass(frozen=True)
class _MeanExcess:
    """`(posterior, center_losses, whole parameters) -> L_n(w) - L_n(w*)`, a scalar; differences first, then the mean."""

    chunk_size: int

    def __call__(self, posterior: LocalPosterior, center_losses: Array, params: Any) -> Array:
        whole = replace(posterior, restriction=None, whole=None, center=params)
        return jnp.mean(example_losses(whole, params, self.chunk_size) - center_losses)


def _tuned(
    key: PRNGKey,
    posterior: LocalPosterior,
    sampler: Kernel | Sampler,
    nodes: np.ndarray,
    step_sizes: ArrayLike | Callable[[float], float] | None,
    pilot_steps: int,
    options: Mapping[str, Any],
) -> list[Tuned]:
    """The sampler at every node."""
    at_nodes = [replace(posterior, nbeta=float(nbeta)) for nbeta in nodes]
    if not isinstance(sampler, Sampler):
        steps = _step_sizes(key, at_nodes, sampler, step_sizes)
        return [Tuned(sampler, None, float(step), 0) for step in steps]
    if step_sizes is not None or options.get("metric") is not None:
        raise ValueError("a Sampler brings its own step size and metric; leave step_sizes and metric out")
    return [_tune(jax.random.fold_in(key, number), one, sampler, pilot_steps) for number, one in enumerate(at_nodes)]


def _tune(key: PRNGKey, posterior: LocalPosterior, sampler: Sampler, pilot_steps: int) -> Tuned:
    pilot_key, tuning_key = jax.random.split(key)
    if sampler.step_size is not None or pilot_steps == 0:
        return sampler.tune(tuning_key, posterior)
    places = find_neighbourhood(pilot_key, posterior, batch_size=sampler.kernel.batch_size, num_steps=pilot_steps)
    return sampler.tune(tuning_key, posterior, neighbourhood=places)


def _step_sizes(
    key: PRNGKey, at_nodes: Sequence[LocalPosterior], kernel: Kernel, given: ArrayLike | Callable[[float], float] | None
) -> np.ndarray:
    if given is None:
        return np.array(
            [calibrate(key, one, batch_size=kernel.batch_size, kernel=kernel).step_size for one in at_nodes]
        )
    nodes = [float(one.nbeta) for one in at_nodes]
    steps = np.array([given(nbeta) for nbeta in nodes]) if callable(given) else np.asarray(given, np.float64)
    if steps.shape != (len(nodes),):
        raise ValueError(f"step_sizes has shape {steps.shape} for {len(nodes)} nodes; give one for each")
    return steps


def _gaussian_free_energy(
    key: PRNGKey, posterior: LocalPosterior, excess: Callable, nbeta: float, num_draws: int
) -> Lowest:
    """-log of the mean of exp(-nβ(L_n - L_n(w*))) over exact draws of N(w*, I/γ)."""
    losses = np.asarray(_gaussian_losses(key, posterior, excess, num_draws), np.float64)
    exponents = -nbeta * losses
    top = exponents.max()
    weights = np.exp(exponents - top)
    mean = weights.mean()
    relative = weights.std(ddof=1) / mean
    return Lowest(
        float(-top - np.log(mean)), float(relative / np.sqrt(num_draws)), float(num_draws / (1 + relative**2))
    )


@partial(jax.jit, static_argnames="num_draws")
def _gaussian_losses(key: PRNGKey, posterior: LocalPosterior, excess: Callable, num_draws: int) -> Array:
    center, unravel = ravel_pytree(posterior.center)

    def one(index: Array) -> Array:
        noise = jax.random.normal(jax.random.fold_in(key, index), center.shape, center.dtype)
        return excess(posterior.full_params(unravel(center + noise / jnp.sqrt(posterior.localization))))

    return jax.lax.map(one, jnp.arange(num_draws))


def phase_difference(first: FreeEnergy, second: FreeEnergy) -> Phases:
    """F of `first` less F of `second` at the nodes, which they must share, `(node,)`: negative where `first` is preferred.

    Raises:
        ValueError: if the nodes differ.

    Example:
        >>> import jax, numpy as np, slt_jax
        >>> from slt_jax.estimators.free_energy import phase_difference
        >>> from slt_jax.models.singular import quadratic
        >>> def energy(seed, curvatures):
        ...     model = quadratic(curvatures)
        ...     posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 1.0, 1.0)
        ...     return slt_jax.free_energy(jax.random.key(seed), posterior, slt_jax.sgld(None), np.geomspace(0.01, 10, 5),
        ...                                step_sizes=lambda nbeta: 0.3 / (1 + nbeta), num_draws=100, thinning=10)
        >>> simple, complex = energy(0, [1.0, 0.0]), energy(1, [1.0, 1.0])
        >>> bool(phase_difference(simple, complex).value[-1] < 0)  # with equal losses the simpler one is preferred
        True
    """
    _check_nodes([first, second])
    return Phases(first.nbeta, first.value - second.value, np.hypot(first.std_error, second.std_error))


def phase_fractions(phases: Sequence[FreeEnergy], log_priors: ArrayLike | None = None) -> Phases:
    """The share of each phase in the posterior, π_k e^(-F_k) / Σ_j π_j e^(-F_j), `(phase, node)`.

    Args:
        phases: independent free energies at the same nodes.
        log_priors: log π of each phase: how much prior its neighbourhood holds, copies of it under symmetries included;
            default equal.

    Raises:
        ValueError: if the nodes differ, or there are not as many `log_priors` as phases.

    Example:
        >>> import jax, numpy as np, slt_jax
        >>> from slt_jax.estimators.free_energy import phase_fractions
        >>> from slt_jax.models.singular import quadratic
        >>> def energy(seed, curvatures):
        ...     model = quadratic(curvatures)
        ...     posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 1.0, 1.0)
        ...     return slt_jax.free_energy(jax.random.key(seed), posterior, slt_jax.sgld(None), np.geomspace(0.01, 10, 5),
        ...                                step_sizes=lambda nbeta: 0.3 / (1 + nbeta), num_draws=100, thinning=10)
        >>> shares = phase_fractions([energy(0, [1.0, 0.0]), energy(1, [1.0, 1.0])])
        >>> shares.value.shape, bool(np.allclose(shares.value.sum(axis=0), 1))
        ((2, 5), True)
    """
    _check_nodes(phases)
    priors = np.zeros(len(phases)) if log_priors is None else np.asarray(log_priors, np.float64)
    if priors.shape != (len(phases),):
        raise ValueError(f"log_priors has shape {priors.shape} for {len(phases)} phases; give one for each")
    logits = priors[:, None] - np.stack([phase.value for phase in phases])
    weights = np.exp(logits - logits.max(axis=0))
    share = weights / weights.sum(axis=0)
    # d share_k / d F_j = share_k (share_j - [k = j])
    jacobian = share[:, None] * (share[None] - np.eye(len(phases))[..., None])
    errors = np.stack([phase.std_error for phase in phases])
    return Phases(phases[0].nbeta, share, np.sqrt(np.einsum("kjn,jn->kn", jacobian**2, errors**2)))


def _check_nodes(phases: Sequence[FreeEnergy]) -> None:
    if any(not np.array_equal(phase.nbeta, phases[0].nbeta) for phase in phases):
        raise ValueError("free energies are at different nbeta; compute all at the same nodes")
