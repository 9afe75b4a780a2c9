"""Integration over log nβ: from what the chains of every node recorded to F(nβ) with its errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from slt_jax.estimators.jackknife import blocks_of, deletions, moments_of_traces
from slt_jax.estimators.llc import RUNAWAY
from slt_jax.sampling.samples import Samples

__all__ = ["FreeEnergy", "Lowest", "integrate", "integration_weights"]

FEWEST_WEIGHTS = 100  # effective draws of the Gaussian at the lowest node


@dataclass(frozen=True)
class FreeEnergy:
    """F at every node, in nats; arrays have axis `(node,)`.

    Attributes:
        nbeta: nβ of the nodes, increasing.
        value: F(nβ), L_n(w*)·nβ included; NaN from the first node on at which a chain diverged.
        std_error: Monte Carlo standard error. Errors of the nodes add up: `value` at two nodes is correlated.
        covariance: of `value` between nodes, `(node, node)`, whose diagonal is the square of `std_error`.
        mean_loss: E[L_n].
        excess: nβ(E[L_n] - L_n(w*)), the LLC at that nβ.
        excess_std_error: standard error of `excess`.
        heat_capacity: (nβ)² Var(L_n).
        integration_error: how far the last value moves, over 15, if every other node is left out (Richardson, fourth
            order); NaN unless the number of nodes is odd and at least 5.
        diverged: `(node, chain)`.
        status: "ok", or sentences that say what is wrong.

    Example:
        >>> import jax, numpy as np, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 1.0, 1.0)
        >>> kernel = slt_jax.sgld(None, integrator="leimkuhler_matthews")
        >>> found = slt_jax.free_energy(jax.random.key(0), posterior, kernel, np.geomspace(0.01, 10, 5),
        ...                             step_sizes=lambda nbeta: 0.3 / (1 + nbeta), num_draws=1000, thinning=10)
        >>> bool(abs(found.value[-1] - np.log(11) / 2) < 0.1)  # F = log(1 + nβ/γ)/2
        True
    """

    nbeta: np.ndarray
    value: np.ndarray
    std_error: np.ndarray
    covariance: np.ndarray
    mean_loss: np.ndarray
    excess: np.ndarray
    excess_std_error: np.ndarray
    heat_capacity: np.ndarray
    integration_error: float
    diverged: np.ndarray
    status: str


class Lowest(NamedTuple):
    """F - nβ·L_n(w*) at the lowest node, its standard error, and the effective number of draws."""

    value: float
    std_error: float
    effective: float


def integration_weights(nbeta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W and D with F(node) - F(first node) = W @ (nβ·E[L]) + D @ (nβ·E[L] - (nβ)²·Var(L)), both `(node, node)`.

    The trapezoid rule in s = log nβ with the correction of its ends, h/2·(g₀ + g₁) + h²/12·(g₀' - g₁') on every
    interval (Euler & Maclaurin): of fourth order, exact for a cubic in s.

    Example:
        >>> import numpy as np
        >>> from slt_jax.estimators.free_energy import integration_weights
        >>> trapezoid, slopes = integration_weights(np.array([1.0, 10.0]))
        >>> trapezoid.round(3).tolist()
        [[0.0, 0.0], [1.151, 1.151]]
    """
    spacing = np.diff(np.log(nbeta))
    trapezoid, slopes = np.zeros((2, len(nbeta), len(nbeta)))
    for index, width in enumerate(spacing):
        trapezoid[index + 1 :, index : index + 2] += width / 2
        slopes[index + 1 :, index] += width**2 / 12
        slopes[index + 1 :, index + 1] -= width**2 / 12
    return trapezoid, slopes


class _Node(NamedTuple):
    """nβ·E and (nβ)²·Var of L_n - L_n(w*) at one node, and their covariance matrix."""

    value: np.ndarray
    covariance: np.ndarray


def _node(traces: np.ndarray, nbeta: float) -> _Node:
    """From the traces `(chain, draw)` of a node, by the jackknife."""
    blocks = blocks_of(moments_of_traces(traces, traces[..., None]))
    value, deleted = deletions(
        lambda pooled: np.array([nbeta * pooled.mean_total, nbeta**2 * pooled.square_total / pooled.count]), blocks
    )
    number = len(deleted)
    spread = deleted - deleted.mean(axis=0)
    return _Node(value, (number - 1) / number * spread.T @ spread)


def integrate(
    nodes: np.ndarray, samples: Sequence[Samples], num_chains: int, at_center: float, lowest: Lowest
) -> FreeEnergy:
    """F at `nodes` from their chains in that order, `num_chains` each, which recorded "excess"."""
    recorded = np.concatenate([one.observables["excess"] for one in samples])
    finite_chains = np.concatenate([one.finite for one in samples])
    traces = recorded.astype(np.float64).reshape(len(nodes), num_chains, -1)
    with np.errstate(invalid="ignore", over="ignore"):
        means = nodes[:, None] * traces.mean(axis=2)
    runaway = means > RUNAWAY * samples[0].num_parameters
    diverged = ~finite_chains.reshape(means.shape) | ~np.isfinite(means) | runaway
    lost = diverged.any(axis=1)
    nothing = _Node(np.full(2, np.nan), np.full((2, 2), np.nan))
    found = [nothing if bad else _node(trace, nbeta) for bad, trace, nbeta in zip(lost, traces, nodes, strict=True)]
    values = np.stack([node.value for node in found])  # (node, [nβE, (nβ)²Var])
    covariances = np.stack([node.covariance for node in found])
    # The slope is nβE - (nβ)²Var: coefficients (node, of node, [nβE, (nβ)²Var]).
    trapezoid, slopes = integration_weights(nodes)
    coefficients = np.stack([trapezoid + slopes, -slopes], axis=-1)
    reached = np.arange(len(nodes)) < (lost.argmax() if lost.any() else len(nodes))
    finite = np.where(reached[:, None], values, 0.0)
    finite_covariances = np.where(reached[:, None, None], covariances, 0.0)
    integral = np.einsum("ijk,jk->i", coefficients, finite)
    covariance = lowest.std_error**2 + np.einsum("ajk,bjl,jkl->ab", coefficients, coefficients, finite_covariances)
    both = np.multiply.outer(reached, reached)
    return FreeEnergy(
        nbeta=nodes,
        value=np.where(reached, nodes * at_center + lowest.value + integral, np.nan),
        std_error=np.where(reached, np.sqrt(np.diag(covariance)), np.nan),
        covariance=np.where(both, covariance, np.nan),
        mean_loss=at_center + values[:, 0] / nodes,
        excess=values[:, 0],
        excess_std_error=np.sqrt(covariances[:, 0, 0]),
        heat_capacity=values[:, 1],
        integration_error=_integration_error(nodes, values, float(integral[-1])),
        diverged=diverged,
        status=_status(nodes, lost, lowest),
    )


def _integration_error(nodes: np.ndarray, values: np.ndarray, integral: float) -> float:
    if len(nodes) < 5 or len(nodes) % 2 == 0:
        return float("nan")
    trapezoid, slopes = integration_weights(nodes[::2])
    energy, capacity = values[::2].T
    coarse = trapezoid[-1] @ energy + slopes[-1] @ (energy - capacity)
    return float(abs(coarse - integral) / 15)


def _status(nodes: np.ndarray, lost: np.ndarray, lowest: Lowest) -> str:
    sentences = []
    if lost.any():
        sentences.append(f"diverged: chains at nbeta = {nodes[lost].tolist()}; F is NaN from the first of them on")
    if not lowest.effective >= FEWEST_WEIGHTS:
        sentences.append(
            f"lowest node too high: {lowest.effective:.0f} effective draws of the Gaussian carry F at nbeta = "
            f"{nodes[0]:g}; begin lower"
        )
    return "; ".join(sentences) if sentences else "ok"
