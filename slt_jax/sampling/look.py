"""One look at a posterior before it is sampled: what would make its LLC wrong without a sign of it in the chains.

Everything is evaluated at w*, or a little beside it: all losses once, those of a few examples among different neighbours, the
gradient, and Ritz pairs of the Hessian from a Krylov space that starts at the gradient. In a Ritz direction v with curvature
a = nβh + γ,

    nβ²(vᵀg)²/a   is twice what the potential can fall by from w*: the LLC reads low by half of the sum;
    nβ²Var(vᵀgᵢ)/B  is the variance of a minibatch's force, which a kernel turns into heat (`Kernel.heating`).
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_jax.backend import full_precision
from slt_jax.posterior import LocalPosterior, check_posterior
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.center import (
    CENTER_CHUNK,
    Center,
    Ritz,
    center_losses,
    check_finite_center,
    generator,
    losses_at,
    no_direction,
    ritz_space,
)
from slt_jax.sampling.inspection import Inspection
from slt_jax.sampling.metrics import Metric
from slt_jax.typing import Params, PRNGKey

__all__ = ["HESSIAN_EXAMPLES", "Look", "Measured", "check_losses", "inspect", "judge", "look", "measure"]

NEIGHBOURS, FEWEST_NEIGHBOURS = 64, 16
NEIGHBOUR_TOLERANCE = {4: 1e-3, 8: 1e-3, 2: 5e-2}
"""Relative change of a loss among other neighbours that is more than rounding, by bytes of the losses' type."""
BESIDE = 0.03  # neighbours are compared at w* moved by this share of every leaf's size: at w* losses may all be zero
STEPS_OF_ROUNDING = 1e-5  # relative change of a loss beside w* that rounding does not explain
UNDIFFERENTIABLE = (TypeError, ValueError, NotImplementedError)
"""What JAX raises for a rule that it cannot differentiate."""
HESSIAN_EXAMPLES = 512
KRYLOV_BLOCK, KRYLOV_BLOCKS = 4, 4
EXAMPLES, BESIDE_STREAM, KRYLOV = range(3)  # streams of the look's key


class Measured(NamedTuple):
    """What a look measures, whatever nβ and γ.

    Attributes:
        center: the examples, and derivatives over them.
        losses: all n at w*, `(n,)`.
        spacing: distance between neighbouring numbers of the losses' own type at the mean of their sizes.
        slopes: gradient of the mean loss along each Ritz vector, `(direction,)`.
        ritz: Ritz pairs of ∇²L, `None` if the loss cannot be differentiated twice.
    """

    center: Center
    losses: np.ndarray
    spacing: float
    slopes: np.ndarray
    ritz: Ritz | None


class Look(NamedTuple):
    """A `Measured` at one nβ and γ: an `Inspection` without heating, and what heating is computed from, one row a Ritz direction.

    Attributes:
        inspection: see there.
        directions: orthonormal columns, `(parameters, direction)`.
        weights: the share of ½ that a direction adds to the LLC, nβh/(nβh + γ), `(direction,)`.
        noise: nβ²Var(vᵀgᵢ) over examples, `(direction,)`.
        stiffness: curvature a = nβh + γ, no less than γ, `(direction,)`.
    """

    inspection: Inspection
    directions: np.ndarray
    weights: np.ndarray
    noise: np.ndarray
    stiffness: np.ndarray

    def heating(
        self, kernel: Kernel, step_size: float, metric: Metric | None = None, scale: Params | None = None
    ) -> float:
        """Share by which minibatch noise raises the LLC at a short step; `scale` is the diagonal of a preconditioner, if there
        is one."""
        return self._mean(self._heat(kernel, step_size, *self._units(metric, scale)))

    def _heat(self, kernel: Kernel, step_size: float, stretch: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Share by which minibatch noise raises the variance of each direction at a short step."""
        if kernel.batch_size is None:
            return np.zeros_like(self.noise)
        return kernel.heating(step_size, stretch * self.noise / kernel.batch_size, along)

    def _mean(self, shares: np.ndarray) -> float:
        """Of what happens to each direction, as each counts in the LLC; NaN if curvatures are not known."""
        if np.isnan(self.inspection.top_curvature):
            return float("nan")
        total = self.weights.sum()
        return float((self.weights * shares).sum() / total) if total > 0 else 0.0

    def _units(self, metric: Metric | None, scale: Params | None) -> tuple[np.ndarray, np.ndarray]:
        """By which factor a metric or preconditioner stretches each direction, and which of them the metric holds."""
        stretch, along = np.ones(len(self.noise)), np.zeros(len(self.noise), bool)
        directions = self.directions.astype(np.float64)
        if metric is not None:
            coefficients = np.asarray(metric.directions).T @ directions
            difference = np.asarray(metric.scales) - float(metric.rest)
            stretch = float(metric.rest) + (difference[:, None] * coefficients**2).sum(axis=0)
            along = (coefficients**2).sum(axis=0) > 0.5
        elif scale is not None:
            stretch = (directions**2 * np.asarray(ravel_pytree(scale)[0])[:, None]).sum(axis=0)
        return stretch, along

    def heated(
        self, kernel: Kernel, step_size: float, metric: Metric | None = None, scale: Params | None = None
    ) -> Inspection:
        """The inspection with what this kernel and step add to the LLC: the step itself, and the heat of its minibatches."""
        stretch, along = self._units(metric, scale)
        stiffness = stretch * self.stiffness
        heat = self._heat(kernel, step_size, stretch, along)
        return replace(
            self.inspection,
            heating=self._mean(heat * kernel.noise_gain(step_size, stiffness)),
            step_bias=self._mean(kernel.step_bias(step_size, stiffness)),
            batch_size=kernel.batch_size,
        )


@full_precision()
def inspect(
    posterior: LocalPosterior,
    kernel: Kernel,
    *,
    step_size: float | None = None,
    metric: Metric | None = None,
    seed: int = 0,
) -> Inspection:
    """Look at `posterior` as `sample` does before it starts, and return what was found.

    Args:
        posterior: what would be sampled.
        kernel: what would sample it; its batch size decides about heating.
        step_size: in the kernel's meaning; without one `Inspection.heating` and `step_bias` are NaN.
        metric: the constant metric that would be given to `sample`.
        seed: of the random directions that are looked at.

    Raises:
        ValueError: if `loss_fn` is not finite at w* (with the number of the example), or an example's loss depends on its
            neighbours.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> x = jnp.linspace(-1.0, 1.0, 100)
        >>> posterior = slt_jax.LocalPosterior(lambda w, x: (w * x) ** 2, x, jnp.ones(()), 20.0, 1.0)
        >>> slt_jax.inspect(posterior, slt_jax.sgld(10)).findings[0][:13]
        'not a minimum'
    """
    check_posterior(posterior)
    found = look(jax.random.key(seed), posterior, kernel.batch_size)
    if step_size is None:
        return found.inspection
    return found.heated(kernel, step_size, metric=metric)


def look(key: PRNGKey, posterior: LocalPosterior, batch_size: int | None = None) -> Look:
    """Look at the posterior around w*, as `measure` and `judge` do.

    Raises:
        ValueError: as `inspect`.
    """
    return judge(measure(key, posterior, batch_size), float(posterior.nbeta), float(posterior.localization))


@full_precision()
def measure(
    key: PRNGKey, posterior: LocalPosterior, batch_size: int | None = None, chunk_size: int | None = None
) -> Measured:
    """All n losses, and about thirty Hessian-vector products of 512 examples.

    Args:
        key: typed PRNG key; chooses the examples and the first vectors.
        posterior: what will be sampled; its `center_losses` are used if it has them.
        batch_size, chunk_size: what may be held in memory; see `Center.of`.

    Raises:
        ValueError: as `inspect`.
    """
    check_finite_center(posterior)
    center = Center.of(generator(key, EXAMPLES), posterior, batch_size, chunk_size)
    moved = _beside(generator(key, BESIDE_STREAM), center.posterior.center)
    slope_beside, losses_beside = _first_chunk(center, moved)
    # Differences first: statistics of a batch also turn one bad example into a bad batch.
    check_neighbours(_among_others(center, moved, losses_beside))
    known = posterior.center_losses
    losses = np.asarray(
        center_losses(posterior, min(CENTER_CHUNK, 8 * center.chunks.shape[1])) if known is None else known
    )
    check_losses(losses)
    if slope_beside is not None:
        _check_slope(slope_beside, losses_beside, losses[center.chunks[0]])
    apart = _spacing(center.posterior, losses)
    try:
        gradient = center.derivatives(no_direction(posterior.center)).gradient
    except UNDIFFERENTIABLE:
        _check_gradient(center.posterior)
        return Measured(center, losses, apart, np.zeros(0), None)
    ritz = _ritz(generator(key, KRYLOV), center, gradient)
    if not np.isfinite(ritz.values).all():
        raise ValueError(
            "the Hessian of the loss at center is not finite; check that loss_fn is smooth and finite at w*"
        )
    return Measured(center, losses, apart, gradient @ ritz.vectors, ritz)


def _check_gradient(posterior: LocalPosterior) -> None:
    """Refuse a loss without a gradient."""
    try:
        jax.eval_shape(jax.grad(lambda w: jnp.mean(posterior.losses(w, posterior.data))), posterior.center)
    except UNDIFFERENTIABLE as error:
        raise TypeError(
            f"loss_fn has no gradient that JAX can take ({str(error).split('. ')[0].rstrip('.')}); write it with operations that "
            "can be differentiated"
        ) from error


def _check_slope(gradient: np.ndarray, beside: np.ndarray, losses: np.ndarray) -> None:
    """Refuse a loss that changes from w* to a point beside it, and has no gradient there."""
    if not gradient.any() and np.abs(beside - losses).max() > STEPS_OF_ROUNDING * np.abs(losses).max():
        raise ValueError(
            "loss_fn changes beside w* where its gradient is zero, so it is made of steps (an argmax, a comparison, rounding), "
            "and no sampler feels them; give a loss whose gradient is not zero, such as cross-entropy in place of accuracy"
        )


def judge(measured: Measured, nbeta: float, localization: float) -> Look:
    """What was measured, at one nβ and γ."""
    coarse = nbeta * measured.spacing
    if measured.ritz is None:
        unseen = Inspection(spacing=coarse, localization=localization, looked=True)
        return Look(unseen, np.zeros((0, 0)), *(np.zeros(0) for _ in range(3)))
    curvatures = nbeta * measured.ritz.values.astype(np.float64)
    stiffness = np.maximum(curvatures, 0.0) + localization
    noise = nbeta**2 * measured.ritz.slopes.var(axis=0, dtype=np.float64)
    # A gradient of part of the data is noisy by itself; what noise adds to the squares on average comes off again.
    missing = 1 / measured.center.count - 1 / measured.losses.size
    squares = (nbeta * measured.slopes.astype(np.float64)) ** 2
    usable = stiffness > 0
    terms = np.divide(squares, stiffness, out=np.zeros_like(squares), where=usable)
    by_chance = np.divide(noise * missing, stiffness, out=np.zeros_like(squares), where=usable)
    gain = (terms.sum() - by_chance.sum() - 3 * np.sqrt(2 * (by_chance**2).sum())) / 2
    inspection = Inspection(
        gain=max(float(gain), 0.0),
        lowest_curvature=float(curvatures.min()),
        top_curvature=float(curvatures.max()),
        spacing=coarse,
        localization=localization,
        looked=True,
    )
    weights = np.divide(np.maximum(curvatures, 0.0), stiffness, out=np.zeros_like(stiffness), where=usable)
    return Look(inspection, measured.ritz.vectors, weights, noise, stiffness)


def _spacing(posterior: LocalPosterior, losses: np.ndarray) -> float:
    """The distance between neighbouring numbers of the losses' own type at the mean of their sizes."""
    examples = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), posterior.data)
    own = jax.eval_shape(posterior.loss_fn, posterior.full_params(posterior.center), examples).dtype
    return float(jnp.finfo(own).eps) * float(np.abs(losses.astype(np.float64)).mean())


def check_losses(losses: np.ndarray) -> None:
    """Refuse losses at w*, one for every example, that are not finite, naming the first."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        raise ValueError(
            f"loss_fn is {losses[bad[0]]} at w* for example {bad[0]} of the data ({bad.size} of {losses.size} examples are "
            "not finite); mend those examples or leave them out"
        )


def check_neighbours(beside: np.ndarray) -> None:
    """Refuse losses that change with the examples beside them; rows of `beside` are the same examples among others."""
    if beside.size == 0:
        return
    size = np.abs(beside[0]).max()
    with np.errstate(invalid="ignore"):
        changes = np.abs(beside[1:] - beside[0]).max(axis=0)
    allowed = NEIGHBOUR_TOLERANCE[beside.dtype.itemsize] * size
    together = np.isfinite(beside).all(axis=0)
    mixed = np.isfinite(beside).any(axis=0) & ~together
    if mixed.any() or (together.any() and changes[together].max() > allowed):
        raise ValueError(
            "loss_fn gives an example another loss when its neighbours in the batch, or their order, change; every example "
            "must be judged alone: running statistics instead of a batch's (BatchNorm in evaluation mode), no dropout, no "
            "in-batch terms"
        )


def _ritz(rng: np.random.Generator, center: Center, gradient: np.ndarray) -> Ritz:
    """Ritz pairs of ∇²L from a block of the gradient and random vectors; all pairs of a small Hessian."""
    dim = gradient.size
    if dim <= KRYLOV_BLOCK * KRYLOV_BLOCKS:
        start, blocks = np.eye(dim, dtype=gradient.dtype), 1
    else:
        start, blocks = rng.standard_normal((dim, KRYLOV_BLOCK)).astype(gradient.dtype), KRYLOV_BLOCKS
        size = np.linalg.norm(gradient)
        if size > 0:
            start[:, 0] = gradient / size
    return ritz_space(lambda vectors: center.derivatives(vectors, HESSIAN_EXAMPLES), start, blocks)


def _first_chunk(center: Center, moved: Params) -> tuple[np.ndarray | None, np.ndarray]:
    """Gradient, if there are second derivatives, and losses of the first chunk at `moved`."""
    try:
        return center.first_chunk(moved)
    except UNDIFFERENTIABLE:
        return None, losses_at(center.posterior, moved, center.chunks[0])


def _among_others(center: Center, moved: Params, first_chunk: np.ndarray) -> np.ndarray:
    """Losses of some examples: all together, and in pairs of quarters, in either order, `(company, example)`."""
    numbers = center.numbers[: min(NEIGHBOURS, max(FEWEST_NEIGHBOURS, center.chunks.shape[1]))]
    if len(numbers) < 2:
        return np.zeros((0, 0), np.float32)

    def losses(batch: np.ndarray) -> np.ndarray:
        return losses_at(center.posterior, moved, batch)

    if len(numbers) < 4:
        alone = np.concatenate([losses(numbers[i : i + 1]) for i in range(len(numbers))])
        return np.stack([losses(numbers), losses(numbers[::-1])[::-1], alone])
    quarters = numbers[: len(numbers) // 4 * 4].reshape(4, -1)
    every = quarters.ravel()
    pairs = [losses(np.concatenate([quarters[i], quarters[(i + 1) % 4]])).reshape(2, -1) for i in range(4)]
    former = np.concatenate([pair[0] for pair in pairs])
    latter = np.concatenate([pairs[i - 1][1] for i in range(4)])
    backwards = np.concatenate([losses(quarters[i : i + 2].ravel()[::-1])[::-1] for i in (0, 2)])
    together = first_chunk[: every.size] if first_chunk.size >= every.size else losses(every)
    return np.stack([together, backwards, former, latter])


def _beside(rng: np.random.Generator, params: Params) -> Params:
    """`params` moved at random by a share of every leaf's size; numpy's arithmetic, which compiles nothing."""

    def move(leaf: Any) -> np.ndarray:
        values = np.asarray(leaf)
        size = BESIDE * (np.sqrt(np.mean(values**2)) + BESIDE)
        return np.asarray(values + size * rng.standard_normal(values.shape), values.dtype)

    return jax.tree.map(move, params)
