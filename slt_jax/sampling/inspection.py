"""One look at a posterior before it is sampled: what would make its LLC wrong without a sign of it in the chains.

Everything is evaluated at w*, or a little beside it: losses of a few examples among different neighbours, the gradient, and
Ritz pairs of the Hessian from a Krylov space that starts at the gradient. In a Ritz direction v with curvature a = nβh + γ,

    nβ²(vᵀg)²/a   is twice what the potential can fall by from w*: the LLC reads low by half of the sum;
    nβ²Var(vᵀgᵢ)/B  is the variance of a minibatch's force, which a kernel turns into heat (`Kernel.heating`).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_jax.linalg import hessian_vector_product, mean_over_examples, ritz_pairs
from slt_jax.posterior import LocalPosterior, check_posterior, example_losses
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.metrics import Metric
from slt_jax.trees import leading_axis, leaf_name, take_examples
from slt_jax.typing import Array, Params, PRNGKey

__all__ = ["HEATING_LIMIT", "Inspection", "Look", "inspect", "look"]

HEATING_LIMIT = 0.05
"""The share of an LLC that minibatch noise may add before it is called heated."""
GAIN_LIMIT = 0.5
"""What the potential nβL + γ/2|w - w*|² may fall by from w*, before w* is called no minimum: half a unit of LLC."""
COARSE_LIMIT = 0.1
"""nβ times the spacing of the losses' number type, above which the estimate is called coarse."""
SADDLE_SHARE = 0.05
"""A negative curvature counts if it overcomes γ and is this share of the top curvature: trained networks have many weaker."""

NEIGHBOURS = 16
NEIGHBOUR_TOLERANCE = {4: 1e-3, 8: 1e-3, 2: 5e-2}
"""Relative change of a loss among other neighbours that is more than rounding, by bytes of the losses' type."""
BESIDE = 0.03  # neighbours are compared at w* moved by this share of every leaf's size: at w* losses may all be zero
GRADIENT_EXAMPLES, HESSIAN_EXAMPLES, NOISE_EXAMPLES, CHUNK = 8192, 512, 256, 512
KRYLOV_BLOCK, KRYLOV_BLOCKS = 4, 4


@dataclass(frozen=True)
class Inspection:
    """What was found at w*, each number beside what it should stay below.

    Attributes:
        gain: what the potential nβL + γ/2|w - w*|² could fall by within its quadratic approximation, ½·nβ²gᵀ(nβH + γ)⁻¹g.
            The LLC reads low by about this. Should be below 0.5.
        lowest_curvature: smallest Ritz value of nβ∇²L. Should not be far below -γ: a saddle has no LLC.
        top_curvature: largest Ritz value of nβ∇²L.
        heating: share by which minibatch noise raises the LLC at this kernel, step and batch size. Should be below 0.05.
            NaN if no step size was given.
        spacing: nβ times the spacing of the losses' number type at their size. Should be below 0.1.
        adapting: whether a preconditioner was still adapting when draws were recorded.
        looked: false where only losses were looked at (a sweep, restrictions).
    """

    gain: float = 0.0
    lowest_curvature: float = 0.0
    top_curvature: float = float("nan")
    heating: float = float("nan")
    spacing: float = 0.0
    localization: float = 0.0
    batch_size: int | None = None
    adapting: bool = False
    looked: bool = False

    @property
    def saddle(self) -> bool:
        """Whether a direction goes down from w* faster than γ and the top curvature excuse."""
        return self.lowest_curvature < -(self.localization + SADDLE_SHARE * max(self.top_curvature, 0.0))

    @property
    def findings(self) -> tuple[str, ...]:
        """One sentence for everything that is out of bounds; empty if nothing is."""
        found = []
        if self.saddle:
            found.append(
                f"not a minimum: at w* a direction has curvature {self.lowest_curvature:.3g} (nβ·h), below -γ; the LLC of a "
                "saddle is not defined, train on or raise localization"
            )
        elif self.gain > GAIN_LIMIT:
            found.append(
                f"not a minimum: the gradient at w* lets the potential fall by about {self.gain:.2g}, and the LLC reads low "
                "by as much; train on, or raise localization"
            )
        if self.heating > 1.1 * HEATING_LIMIT:  # `calibrate` goes up to the limit itself
            wanted = "" if self.batch_size is None else f" to {_proposed_batch(self.batch_size, self.heating):,}"
            found.append(
                f"heated: minibatch noise raises the LLC by about {self.heating:.0%}; raise batch_size{wanted} or lower "
                "step_size in proportion"
            )
        if self.spacing > COARSE_LIMIT:
            found.append(
                f"coarse: nbeta times the spacing of the losses' number type is {self.spacing:.2g}; take a constant off "
                "the losses, or use a wider type"
            )
        if self.adapting:
            found.append(
                "adapting: the preconditioner followed the chain while draws were recorded, which raises variances by 10 to "
                "40%; give num_burnin > 0, after which it is constant"
            )
        return tuple(found)


class Look(NamedTuple):
    """What `look` measured: an `Inspection` without heating, and what heating is computed from, one row a Ritz direction.

    Attributes:
        inspection: see there.
        directions: orthonormal columns, `(parameters, direction)`.
        weights: the share of ½ that a direction adds to the LLC, nβh/(nβh + γ), `(direction,)`.
        noise: nβ²Var(vᵀgᵢ) over examples, `(direction,)`.
    """

    inspection: Inspection
    directions: np.ndarray
    weights: np.ndarray
    noise: np.ndarray

    def heating(
        self, kernel: Kernel, step_size: float, metric: Metric | None = None, scale: Params | None = None
    ) -> float:
        """Share by which minibatch noise raises the LLC; `scale` is the diagonal of a preconditioner, if there is one."""
        total = self.weights.sum()
        if kernel.batch_size is None or not total > 0:
            return 0.0
        stretch, along = np.ones(len(self.noise)), np.zeros(len(self.noise), bool)
        if metric is not None:
            coefficients = np.asarray(metric.directions).T @ self.directions
            difference = np.asarray(metric.scales) - float(metric.rest)
            stretch = float(metric.rest) + (difference[:, None] * coefficients**2).sum(axis=0)
            along = (coefficients**2).sum(axis=0) > 0.5
        elif scale is not None:
            stretch = (self.directions**2 * np.asarray(ravel_pytree(scale)[0])[:, None]).sum(axis=0)
        shares = kernel.heating(step_size, stretch * self.noise / kernel.batch_size, along)
        return float((self.weights * shares).sum() / total)

    def heated(self, kernel: Kernel, step_size: float, **matrices: Metric | Params | None) -> Inspection:
        """The inspection with the heating of this kernel and step."""
        heating = self.heating(kernel, step_size, **matrices)
        return replace(self.inspection, heating=heating, batch_size=kernel.batch_size)


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
        step_size: in the kernel's meaning; without one `Inspection.heating` is NaN.
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
    check_losses(np.asarray(jax.jit(example_losses)(posterior, posterior.center)))
    found = look(jax.random.key(seed), posterior)
    if step_size is None:
        return found.inspection
    return found.heated(kernel, step_size, metric=metric)


def look(key: PRNGKey, posterior: LocalPosterior) -> Look:
    """Look at the posterior around w*; costs about a hundred gradients of 256 examples.

    Raises:
        ValueError: as `inspect`, but that only a few thousand losses are seen to be finite.
    """
    check_finite_center(posterior)
    measured = jax.device_get(_measure(key, posterior))
    # Differences first: statistics of a batch also turn one bad example into a bad batch.
    check_neighbours(measured["beside"], measured["beside"].dtype)
    check_losses(measured["losses"], measured["chosen"])
    if not np.isfinite(measured["values"]).all():
        raise ValueError(
            "the Hessian of the loss at center is not finite; check that loss_fn is smooth and finite at w*"
        )
    nbeta, localization = float(posterior.nbeta), float(posterior.localization)
    curvatures = nbeta * measured["values"].astype(np.float64)
    stiffness = np.maximum(curvatures, 0.0) + localization
    noise = nbeta**2 * measured["noise"].astype(np.float64)
    # A gradient of part of the data is noisy by itself; what noise adds to the squares on average comes off again.
    missing = (1 - measured["losses"].size / posterior.n) / measured["losses"].size
    squares = (nbeta * measured["slopes"].astype(np.float64)) ** 2
    usable = stiffness > 0
    terms = np.divide(squares, stiffness, out=np.zeros_like(squares), where=usable)
    by_chance = np.divide(noise * missing, stiffness, out=np.zeros_like(squares), where=usable)
    gain = (terms.sum() - by_chance.sum() - 3 * np.sqrt(2 * (by_chance**2).sum())) / 2
    losses = measured["losses"]
    inspection = Inspection(
        gain=max(float(gain), 0.0),
        lowest_curvature=float(curvatures.min()),
        top_curvature=float(curvatures.max()),
        spacing=spacing(posterior, losses),
        localization=localization,
        looked=True,
    )
    weights = np.divide(np.maximum(curvatures, 0.0), stiffness, out=np.zeros_like(stiffness), where=usable)
    return Look(inspection, measured["vectors"].astype(np.float64), weights, noise)


def spacing(posterior: LocalPosterior, losses: np.ndarray) -> float:
    """nβ times the distance between neighbouring numbers of the losses' own type at the mean of their sizes."""
    examples = jax.tree.map(lambda leaf: leaf[:1], posterior.data)
    own = jax.eval_shape(posterior.loss_fn, posterior.full_params(posterior.center), examples).dtype
    return float(posterior.nbeta) * float(jnp.finfo(own).eps) * float(np.abs(losses.astype(np.float64)).mean())


def check_finite_center(posterior: LocalPosterior) -> None:
    """Refuse a w* that holds a value that is not finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(posterior.full_params(posterior.center)):
        if not bool(jnp.all(jnp.isfinite(leaf))):
            count = int(jnp.sum(~jnp.isfinite(leaf)))
            raise ValueError(
                f"{leaf_name('center', path)} holds {count} value(s) that are not finite; load or train w* again"
            )


def check_losses(losses: np.ndarray, numbers: np.ndarray | None = None) -> None:
    """Refuse losses at w* that are not finite, naming the first example; `numbers` are the examples', if not 0, 1, ..."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if bad.size:
        first = bad[0] if numbers is None else numbers[bad[0]]
        raise ValueError(
            f"loss_fn is {losses[bad[0]]} at w* for example {first} of the data ({bad.size} of {losses.size} examples looked "
            "at are not finite); mend those examples or leave them out"
        )


def check_neighbours(beside: np.ndarray, dtype: np.dtype) -> None:
    """Refuse losses that change with the examples beside them; rows of `beside` are the same examples among others."""
    if beside.shape[1] == 0:
        return
    size = np.abs(beside[0]).max()
    with np.errstate(invalid="ignore"):
        changes = np.abs(beside[1:] - beside[0]).max(axis=0)
    allowed = NEIGHBOUR_TOLERANCE[dtype.itemsize] * size
    together = np.isfinite(beside).all(axis=0)
    mixed = np.isfinite(beside).any(axis=0) & ~together
    if mixed.any() or (together.any() and changes[together].max() > allowed):
        raise ValueError(
            "loss_fn gives an example another loss when its neighbours in the batch, or their order, change; every example "
            "must be judged alone: running statistics instead of a batch's (BatchNorm in evaluation mode), no dropout, no "
            "in-batch terms"
        )


def _proposed_batch(batch_size: int, heating: float) -> int:
    return int(np.ceil(batch_size * heating / HEATING_LIMIT))


@jax.jit
def _measure(key: PRNGKey, posterior: LocalPosterior) -> dict[str, Array]:
    """Losses and gradient of some examples, Ritz pairs of the Hessian, noise along them, losses among other neighbours."""
    choice_key, krylov_key, beside_key = jax.random.split(key, 3)
    n = posterior.n
    count = min(n, GRADIENT_EXAMPLES)
    chosen = jnp.arange(n) if count == n else jax.random.choice(choice_key, n, (count,), replace=False)
    losses, gradient = _losses_and_gradient(posterior, take_examples(posterior.data, chosen))
    few = take_examples(posterior.data, chosen[:HESSIAN_EXAMPLES])
    values, vectors = _ritz(krylov_key, posterior, few, ravel_pytree(gradient)[0])
    noise_examples = take_examples(posterior.data, chosen[-NOISE_EXAMPLES:])
    return {
        "chosen": chosen,
        "losses": losses,
        "values": values,
        "vectors": vectors,
        "slopes": ravel_pytree(gradient)[0] @ vectors,
        "noise": _noise(posterior, noise_examples, vectors),
        "beside": _among_others(beside_key, posterior, chosen[:NEIGHBOURS]),
    }


def _losses_and_gradient(posterior: LocalPosterior, examples: Params) -> tuple[Array, Params]:
    def on_part(part: Params) -> Params:
        return jax.grad(lambda w: jnp.mean(posterior.losses(w, part)))(posterior.center)

    losses = example_losses(replace(posterior, data=examples), posterior.center, CHUNK)
    return losses, mean_over_examples(on_part, examples, CHUNK)


def _ritz(key: PRNGKey, posterior: LocalPosterior, examples: Params, gradient: Array) -> tuple[Array, Array]:
    """Ritz pairs of ∇²L over `examples`, from a block of the gradient and random vectors."""
    unravel = ravel_pytree(posterior.center)[1]
    dim = gradient.size

    def product(vector: Array) -> Array:
        image = hessian_vector_product(posterior.losses, posterior.center, examples, unravel(vector))
        return ravel_pytree(image)[0]

    if dim <= KRYLOV_BLOCK * KRYLOV_BLOCKS:
        matrix = jax.lax.map(product, jnp.eye(dim, dtype=gradient.dtype))
        values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
        return values, vectors
    start_key, restart_key = jax.random.split(key)
    start = jax.random.normal(start_key, (dim, KRYLOV_BLOCK), gradient.dtype)
    size = jnp.linalg.norm(gradient)
    start = start.at[:, 0].set(jnp.where(size > 0, gradient / jnp.where(size > 0, size, 1.0), start[:, 0]))
    return ritz_pairs(restart_key, product, start, KRYLOV_BLOCKS)


def _noise(posterior: LocalPosterior, examples: Params, vectors: Array) -> Array:
    """Variance over examples of vᵀ∇l_i, for every column v."""

    def along(vector: Array) -> Array:
        # All vᵀ∇l_i at once, and in reverse mode alone, which is all that a custom_vjp knows: Σ cᵢ vᵀ∇l_i is linear in c.
        def weighted(weights: Array) -> Array:
            gradient = jax.grad(lambda w: jnp.vdot(weights, posterior.losses(w, examples)))(posterior.center)
            return jnp.vdot(ravel_pytree(gradient)[0], vector)

        slopes = jax.grad(weighted)(jnp.ones(leading_axis(examples), vectors.dtype))
        return jnp.var(slopes)

    return jax.lax.map(along, vectors.T)


def _among_others(key: PRNGKey, posterior: LocalPosterior, indices: Array) -> Array:
    """Losses of the first half of the examples: beside the second half, beside it in reverse order, and alone."""
    flat, unravel = ravel_pytree(posterior.center)
    sizes = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.sqrt(jnp.mean(leaf**2))), posterior.center)
    moved = unravel(flat + BESIDE * (ravel_pytree(sizes)[0] + BESIDE) * jax.random.normal(key, flat.shape, flat.dtype))
    half = len(indices) // 2
    if half == 0:
        return jnp.zeros((3, 0))

    def losses(chosen: Array) -> Array:
        return posterior.losses(moved, take_examples(posterior.data, chosen))

    # An even reversal puts every example at another place among others.
    together, backwards, alone = losses(indices), losses(indices[::-1]), losses(indices[:half])
    return jnp.stack([together[:half], backwards[::-1][:half], alone])
