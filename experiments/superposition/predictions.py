"""Four predictions of the n at which the 6-gon overtakes the 5-gon, each a free energy by the method of Laplace, cut off somewhere.

    F(n) = n L + λ log n                                         leading order
         ... + ½|w|²                                             with the prior N(0, I) at the polygon, silent bias 0
         ... and all constants                                   Laplace, each phase once per labelling of its corners

The constants: a phase is a family of circles (rotations) of length 2π√(Σ|w_i|²), one for each cyclic order of its live features,
(k - 1)! times the choices of live ones. Across the circle the posterior is Gaussian with the curvatures nh + 1, of n L and of the
prior: (2π)^(d/2) ∏(nh + 1)^(-1/2). The prior's 1 is of higher order in 1/n, and cannot be left out: the least h of the 6-gon is
0.02, so that nh is 5 at n = 250. Without it the crossings come out at 112 and 253 instead of 139 and 261 (`prior_curvature=0`).
The silent feature of the 5-gon, three parameters, has no curvature: what counts is the prior's share of where it is silent. Its
rim is not sharp at n of some hundred, and beyond it lies 5+; the last prediction integrates over the three parameters exactly.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, qmc

from experiments.superposition.landscape import loss_of, to_point
from slt_jax.theory.superposition import Polygon, polygon

__all__ = ["PREDICTIONS", "crossings"]

PREDICTIONS = ("leading order", "with the prior", "Laplace, silent feature", "Laplace, sixth feature integrated")
BITS = 16  # log2 of the points of the quadrature over the sixth feature
SIXTH = (11, 17, 5)  # its weights and bias among the ravelled parameters
EXAMPLES = (20.0, 5000.0)


class _Parts(NamedTuple):
    """What a phase's Laplace approximation is made of: what does not depend on n, and the curvatures of L across the circle."""

    loss: float
    constant: float
    curvature: np.ndarray


def crossings(prior_curvature: float = 1.0) -> dict[str, float]:
    """n of each of `PREDICTIONS`; NaN where the two free energies do not cross. `prior_curvature=0` is Laplace to leading order."""
    five, six = polygon(6, 5), polygon(6, 6)
    gain = five.loss - six.loss
    cost = float(six.learning_coefficient - five.learning_coefficient)
    prior = _half_square(six) - _half_square(five)
    hexagon, pentagon = _laplace(six), _laplace(five)
    heights, silent = _sixth_feature(five)
    share = float(silent.mean())

    def laplace(n: float, log_mass: float) -> float:
        return _free_energy(hexagon, n, prior_curvature) - (_free_energy(pentagon, n, prior_curvature) - log_mass)

    differences: list[Callable[[float], float]] = [
        lambda n: cost * math.log(n) - n * gain,
        lambda n: cost * math.log(n) - n * gain + prior,
        lambda n: laplace(n, math.log(share)),
        lambda n: laplace(n, math.log(float(np.mean(np.exp(-n * heights))))),
    ]
    return {name: _last_root(difference) for name, difference in zip(PREDICTIONS, differences, strict=True)}


def _half_square(phase: Polygon) -> float:
    """½|w|² of the live features."""
    live = slice(0, phase.sides)
    return 0.5 * float(np.sum(phase.weights[:, live] ** 2) + np.sum(phase.biases[live] ** 2))


def _laplace(phase: Polygon) -> _Parts:
    """The integral over the live features: -log of what does not depend on n."""
    live, silent = phase.sides, phase.num_silent
    point = np.asarray(to_point(phase))
    with jax.enable_x64(True):
        hessian = np.asarray(jax.hessian(partial(loss_of, phase.features))(jnp.asarray(point, jnp.float64)))
    curvature = np.linalg.eigvalsh(hessian)[phase.flat_directions :]
    labellings = math.comb(phase.features, live) * math.factorial(live - 1)
    circle = 2 * math.pi * phase.radius * math.sqrt(live)
    parameters = 3 * (phase.features - silent)
    log_prior = -_half_square(phase) - parameters / 2 * math.log(2 * math.pi)
    log_gaussian = len(curvature) / 2 * math.log(2 * math.pi)
    return _Parts(phase.loss, -(math.log(labellings) + math.log(circle) + log_prior + log_gaussian), curvature)


def _free_energy(parts: _Parts, n: float, prior_curvature: float) -> float:
    return n * parts.loss + 0.5 * float(np.sum(np.log(n * parts.curvature + prior_curvature))) + parts.constant


def _sixth_feature(five: Polygon) -> tuple[np.ndarray, np.ndarray]:
    """L above that of the 5-gon, and whether the sixth feature is silent, at points of the prior of its three parameters."""
    points = norm.ppf(qmc.Sobol(3, seed=0).random_base2(BITS)).astype(np.float32)
    pentagon = jnp.asarray(to_point(five))
    heights = jax.lax.map(
        lambda sixth: loss_of(6, pentagon.at[jnp.array(SIXTH)].set(sixth)) - five.loss,
        jnp.asarray(points),
        batch_size=1024,
    )
    columns, bias = points[:, :2], points[:, 2:]
    products = columns @ five.weights[:, :5]
    square = np.sum(columns**2, axis=1, keepdims=True)
    reached = np.concatenate([products + bias, products + five.biases[:5], square + bias, bias], axis=1)
    return np.asarray(heights, np.float64), np.all(reached < 0, axis=1)


def _last_root(difference: Callable[[float], float]) -> float:
    """The largest n in `EXAMPLES` at which the difference turns negative."""
    grid = np.geomspace(*EXAMPLES, 400)
    values = np.array([difference(n) for n in grid])
    turns = np.flatnonzero((values[:-1] >= 0) & (values[1:] < 0))
    return float(brentq(difference, grid[turns[-1]], grid[turns[-1] + 1])) if turns.size else float("nan")
