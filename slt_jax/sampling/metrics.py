"""Constant metrics, low-rank plus identity, and the one made of the curvature at w*.

    w ← w - h·G∇U + √(2h)·G^{1/2}N,    h = ε/2;    G = (nβ∇²L(w*) + d·I)⁻¹

G is constant, so the posterior is unchanged and no correction term appears. With the curvature metric a step of order 1 is
right in every stiff direction, whatever the model, n or nβ.

The damping d decides how far a step goes in the flat directions, and no metric at w* knows how long they stay flat: on a
singular model a chain soon reaches places where they are stiff. In units of the metric their curvature is then a/d, with a
up to the top curvature. The default d, a fraction of the top curvature, keeps every step size up to about 1 stable
wherever the chain goes; `docs/accuracy.md` shows what a smaller one gains and risks.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from slt_jax.arguments import check_key
from slt_jax.backend import full_precision
from slt_jax.linalg import Eigenpairs, hessian_vector_product, top_eigenpairs
from slt_jax.posterior import LocalPosterior, check_posterior
from slt_jax.typing import Array, Batch, Params, PRNGKey

__all__ = ["CurvatureMetric", "Metric", "curvature_metric", "products_spent"]

DAMPING_FRACTION = 0.5  # of the top curvature
NEGLIGIBLE = 0.1  # curvature below this share of the damping changes G by less than a tenth, and is left to the rest
FIRST_RANK = 128
OVERSAMPLING = 32  # `top_eigenpairs` spends 2·rank + 32 products


class Metric(NamedTuple):
    """A constant matrix G, low-rank plus identity on the ravelled parameters; a pytree, passed in as data.

        G = U diag(s) Uᵀ + r (I - UUᵀ)

    Attributes:
        directions: U with orthonormal columns, shape `(parameters, rank)`.
        scales: s, the eigenvalues of G along those columns, shape `(rank,)`.
        rest: r, the eigenvalue of G in every other direction, a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax import Metric
        >>> metric = Metric(jnp.array([[1.0], [0.0]]), jnp.array([4.0]), jnp.asarray(1.0))  # diag(4, 1)
        >>> metric.sqrt(jnp.array([1.0, 1.0])).tolist(), metric.inverse().scales.tolist()
        ([2.0, 1.0], [0.25])
    """

    directions: Array
    scales: Array
    rest: Array

    def step(self, gradient: Params, noise: Params) -> Params:
        """G·gradient + G^{1/2}·noise as a pytree like both; U is read twice, not four times."""
        flat_gradient, unravel = ravel_pytree(gradient)
        flat_noise, _ = ravel_pytree(noise)
        coefficients = jnp.stack([flat_gradient, flat_noise]) @ self.directions
        along = (self.scales - self.rest) * coefficients[0]
        along += (jnp.sqrt(self.scales) - jnp.sqrt(self.rest)) * coefficients[1]
        return unravel(self.rest * flat_gradient + jnp.sqrt(self.rest) * flat_noise + self.directions @ along)

    def sqrt(self, vector: Params) -> Params:
        """G^{1/2}·vector, a pytree like `vector`."""
        flat, unravel = ravel_pytree(vector)
        along = (jnp.sqrt(self.scales) - jnp.sqrt(self.rest)) * (flat @ self.directions)
        return unravel(jnp.sqrt(self.rest) * flat + self.directions @ along)

    def inverse(self) -> "Metric":
        """G⁻¹."""
        return Metric(self.directions, 1 / self.scales, 1 / self.rest)


@dataclass(frozen=True)
class CurvatureMetric:
    """The rule by which a `Sampler` makes a `curvature_metric` at each posterior it is tuned for.

    Attributes:
        rank, damping, max_rank, num_examples, chunk_size: as of `curvature_metric`.

    Example:
        >>> import slt_jax
        >>> slt_jax.CurvatureMetric(rank=64)
        CurvatureMetric(rank=64, damping=None, max_rank=512, num_examples=4096, chunk_size=None)
    """

    rank: int | None = None
    damping: float | None = None
    max_rank: int = 512
    num_examples: int | None = 4096
    chunk_size: int | None = None

    def __call__(self, key: PRNGKey, posterior: LocalPosterior) -> Metric:
        """The metric of `posterior`."""
        return curvature_metric(
            key, posterior, self.rank, self.damping, max_rank=self.max_rank, num_examples=self.num_examples,
            chunk_size=self.chunk_size,
        )  # fmt: skip


@full_precision()
def curvature_metric(
    key: PRNGKey,
    posterior: LocalPosterior,
    rank: int | None = None,
    damping: float | None = None,
    *,
    max_rank: int = 512,
    num_examples: int | None = 4096,
    chunk_size: int | None = None,
) -> Metric:
    """The metric G = (nβ∇²L(w*) + d·I)⁻¹ of `posterior`.

    Costs 2·rank + 32 Hessian-vector products over `num_examples` examples, each about two gradients; an automatic rank
    costs at most as much again. Curvature that comes out negative counts as zero.

    Args:
        key: typed PRNG key; chooses the examples and the first vectors.
        posterior: what will be sampled; may be restricted.
        rank: number of eigenvectors; `None`: as many as have a curvature above a tenth of the damping, found by doubling,
            at most `max_rank`.
        damping: d, at least the localization γ; `None`: half the top curvature, and at least γ; more where `max_rank`
            eigenvectors do not reach down to a tenth of that.
        max_rank: bound of an automatic rank.
        num_examples: the Hessian is averaged over this many examples (`None`: all); a rough G is as unbiased as a good one.
        chunk_size: examples per pass, so that memory does not grow with `num_examples`.

    Returns:
        A `Metric`: directions `(parameters, rank)`, scales `(rank,)` = 1/(curvature + d), rest 1/d.

    Raises:
        ValueError: if the posterior cannot be sampled, `rank` is not in 1..parameters, `damping` is below γ or not
            positive, or the curvature at w* is not finite.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([2.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> metric = slt_jax.curvature_metric(jax.random.key(0), posterior, rank=2, damping=1.0)
        >>> (1 / metric.scales).round().tolist()  # nβh + d
        [201.0, 101.0]
    """
    check_key(key)
    check_posterior(posterior)
    dim = ravel_pytree(posterior.center)[0].size
    localization = float(posterior.localization)
    if rank is not None and not 1 <= rank <= dim:
        raise ValueError(f"rank = {rank}; it must lie between 1 and the number of parameters, {dim}")
    if damping is not None and not (damping > 0 and localization <= damping < float("inf")):
        raise ValueError(
            f"damping = {damping}; it must be positive, finite and at least the localization {localization:g}, which "
            "bounds the curvature of every direction from below"
        )
    data_key, vector_key = jax.random.split(key)
    data = posterior.data
    if num_examples is not None and num_examples < posterior.n:
        chosen = jax.random.choice(data_key, posterior.n, (num_examples,), replace=False)
        data = jax.tree.map(lambda leaf: leaf[chosen], data)
    count = min(FIRST_RANK, max_rank, dim) if rank is None else rank
    while True:
        values, vectors = _eigenpairs(vector_key, posterior, data, rank=count, chunk_size=chunk_size)
        if not bool(jnp.all(jnp.isfinite(values))):
            raise ValueError("the Hessian of the loss at center is not finite; check that loss_fn is finite at w*")
        values = jnp.maximum(values, 0.0)
        chosen_damping = max(DAMPING_FRACTION * float(values[0]), localization) if damping is None else float(damping)
        if chosen_damping == 0:
            raise ValueError("the loss is flat at center and localization = 0; give a damping, or localization > 0")
        kept = int(jnp.sum(values > NEGLIGIBLE * chosen_damping))
        if rank is not None or kept < count or count >= min(max_rank, dim):
            break
        count = min(2 * count, max_rank, dim)
    if rank is None and damping is None and kept == count < dim:
        # More curvature than max_rank covers: a larger damping makes what is left out negligible again.
        chosen_damping = max(chosen_damping, float(values[-1]) / NEGLIGIBLE)
    if rank is None:
        values, vectors = values[: max(kept, 1)], vectors[:, : max(kept, 1)]
    return Metric(vectors, 1 / (values + chosen_damping), jnp.asarray(1 / chosen_damping, vectors.dtype))


def products_spent(rank: int, *, max_rank: int = 512) -> int:
    """Hessian-vector products that an automatic metric of this rank has cost, the doubling included.

    Example:
        >>> from slt_jax.sampling.metrics import products_spent
        >>> products_spent(rank=20)
        288
    """
    count = total = 0
    while count <= rank and count < max_rank:
        count = min(max(2 * count, FIRST_RANK), max_rank)
        total += 2 * count + OVERSAMPLING
    return total


@partial(jax.jit, static_argnames=("rank", "chunk_size"))
def _eigenpairs(
    key: PRNGKey, posterior: LocalPosterior, data: Batch, *, rank: int, chunk_size: int | None
) -> Eigenpairs:
    """Leading eigenpairs of nβ∇²L(w*), the mean taken over `data`."""
    flat, unravel = ravel_pytree(posterior.center)

    def product(vector: Array) -> Array:
        image = hessian_vector_product(posterior.losses, posterior.center, data, unravel(vector), chunk_size=chunk_size)
        return posterior.nbeta * ravel_pytree(image)[0]

    return top_eigenpairs(key, product, flat.size, rank, dtype=flat.dtype)
