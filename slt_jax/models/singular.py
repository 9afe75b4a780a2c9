"""Small models whose learning coefficient is known: a loss, its data, a minimum, and the exact (λ, m) there.

    quadratic          ½ Σ hᵢwᵢ²                     λ = half the number of positive hᵢ
    normal_crossing    ∏ wᵢ^(2kᵢ)                    multiplicity 2, 3, ... where several kᵢ share the minimum
    reduced_rank       ½|BAx - y|²                   Aoyagi & Watanabe 2005, at the deepest point of the fibre
    tanh_network       ½(Σ aₕ tanh(bₕx))²            true function 0
    relu_unit          ½(a·relu(w·x))²               true function 0

Data are exact where they can be: inputs come with empirical covariance I, so L_n is the polynomial written above and not
that up to sampling noise.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from slt_jax import theory
from slt_jax.theory import LearningCoefficient
from slt_jax.typing import Array, Batch, LossFn, Params

__all__ = ["KnownModel", "normal_crossing", "quadratic", "reduced_rank", "relu_unit", "tanh_network"]


class KnownModel(NamedTuple):
    """A model and what is known about it.

    Attributes:
        name: short, unique, as shown in tables.
        loss_fn: `(params, batch) -> losses`, one per example; equal settings give the same function, so they compile
            once.
        data: what L_n averages over.
        center: w*, a minimum with L_n(w*) = 0.
        coefficient: exact (λ, m) at w*.

    Example:
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 2.0, 0.0])
        >>> model.loss_fn(model.center, model.data).tolist(), model.coefficient.learning_coefficient
        ([0.0], Fraction(1, 1))
    """

    name: str
    loss_fn: LossFn
    data: Batch
    center: Params
    coefficient: LearningCoefficient


def quadratic(curvatures: Sequence[float]) -> KnownModel:
    """L = ½ Σ hᵢwᵢ², flat where hᵢ = 0. Regular along the flat directions: λ = (number of hᵢ > 0)/2, m = 1.

    Raises:
        ValueError: if there is no positive curvature, or a negative one.

    Example:
        >>> from slt_jax.models.singular import quadratic
        >>> quadratic([1.0, 2.0, 0.0]).coefficient
        LearningCoefficient(learning_coefficient=Fraction(1, 1), multiplicity=1)
    """
    values = tuple(float(h) for h in curvatures)
    if not values or min(values) < 0 or max(values) == 0:
        raise ValueError(f"curvatures = {values}; give non-negative numbers of which at least one is positive")
    rank = sum(h > 0 for h in values)
    name = f"quadratic, {rank} of {len(values)} directions"
    return KnownModel(name, _quadratic_loss(values), jnp.zeros(1), jnp.zeros(len(values)), theory.constant_rank(rank))


@lru_cache
def _quadratic_loss(curvatures: tuple[float, ...]) -> LossFn:
    def loss_fn(params: Float[Array, " d"], batch: Float[Array, " batch"]) -> Float[Array, " batch"]:
        return jnp.broadcast_to(0.5 * jnp.sum(jnp.array(curvatures) * params**2), batch.shape)

    return loss_fn


def normal_crossing(exponents: Sequence[int]) -> KnownModel:
    """L = ∏ wᵢ^(2kᵢ) at w* = 0; λ = 1/(2 max kᵢ), m = how many kᵢ are that large.

    Raises:
        ValueError: as `theory.normal_crossing`.

    Example:
        >>> from slt_jax.models.singular import normal_crossing
        >>> model = normal_crossing([1, 1])  # w₁²w₂²
        >>> model.name, model.coefficient.learning_coefficient, model.coefficient.multiplicity
        ('w1^2 w2^2', Fraction(1, 2), 2)
    """
    powers = tuple(int(k) for k in exponents)
    coefficient = theory.normal_crossing(powers)
    name = " ".join(f"w{i}^{2 * k}" for i, k in enumerate(powers, 1) if k)
    return KnownModel(name, _crossing_loss(powers), jnp.zeros(1), jnp.zeros(len(powers)), coefficient)


@lru_cache
def _crossing_loss(exponents: tuple[int, ...]) -> LossFn:
    def loss_fn(params: Float[Array, " d"], batch: Float[Array, " batch"]) -> Float[Array, " batch"]:
        # Integer powers one by one: their derivatives are exact at 0, where those of exp(2k log w) are not.
        factors = [params[i] ** (2 * k) for i, k in enumerate(exponents) if k]
        return jnp.broadcast_to(jnp.prod(jnp.stack(factors)), batch.shape)

    return loss_fn


def reduced_rank(input_dim: int, hidden_dim: int, output_dim: int, rank: int = 0) -> KnownModel:
    """L = ½|BA - T|² (squared Frobenius norm) for y = Tx with T = diag(1, .., 1, 0, ..) of rank r.

    w* has A and B equal to the same diagonal and zero elsewhere: the deepest point of {BA = T}, to which the published
    value belongs. Parameters `{"layer_1": A (hidden, input), "layer_2": B (output, hidden)}`.

    Raises:
        ValueError: as `theory.reduced_rank_regression`.

    Example:
        >>> from slt_jax.models.singular import reduced_rank
        >>> model = reduced_rank(3, 2, 3, rank=1)
        >>> model.center["layer_1"].shape, model.coefficient.learning_coefficient
        ((2, 3), Fraction(7, 2))
    """
    coefficient = theory.reduced_rank_regression(input_dim, hidden_dim, output_dim, rank)
    inputs = _white_inputs(input_dim)
    ones = jnp.where(jnp.arange(max(input_dim, hidden_dim, output_dim)) < rank, 1.0, 0.0)
    diagonal = jnp.diag(ones)
    center = {"layer_1": diagonal[:hidden_dim, :input_dim], "layer_2": diagonal[:output_dim, :hidden_dim]}
    data = {"x": inputs, "y": inputs @ diagonal[:output_dim, :input_dim].T}
    name = f"reduced rank {input_dim}-{hidden_dim}-{output_dim}, true rank {rank}"
    return KnownModel(name, _reduced_rank_loss, data, center, coefficient)


def _reduced_rank_loss(params: Params, batch: Batch) -> Float[Array, " batch"]:
    outputs = batch["x"] @ params["layer_1"].T @ params["layer_2"].T
    return 0.5 * jnp.sum((outputs - batch["y"]) ** 2, axis=-1)


def tanh_network(hidden_units: int, num_points: int = 20) -> KnownModel:
    """L = ½ mean over x of (Σ aₕ tanh(bₕx))², x on a grid of `num_points` in [-1, 1], true function 0, w* = 0.

    Parameters `{"inner": b (hidden,), "outer": a (hidden,)}`.

    Raises:
        ValueError: as `theory.tanh_network_zero_truth`, or if the points cannot tell the hidden units apart.

    Example:
        >>> from slt_jax.models.singular import tanh_network
        >>> tanh_network(2).coefficient.learning_coefficient
        Fraction(2, 3)
    """
    coefficient = theory.tanh_network_zero_truth(hidden_units)
    if num_points < 2 * hidden_units + 1:
        raise ValueError(f"num_points = {num_points}; {hidden_units} hidden units need at least {2 * hidden_units + 1}")
    center = {"inner": jnp.zeros(hidden_units), "outer": jnp.zeros(hidden_units)}
    points = jnp.linspace(-1.0, 1.0, num_points)
    return KnownModel(f"tanh network, {hidden_units} units", _tanh_loss, points, center, coefficient)


def _tanh_loss(params: Params, batch: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return 0.5 * (jnp.tanh(batch[:, None] * params["inner"][None, :]) @ params["outer"]) ** 2


def relu_unit(input_dim: int = 1) -> KnownModel:
    """L = ½ mean over x of (a·relu(w·x))² = ¼ a²|w|², true function 0, w* = 0.

    Parameters `{"inner": w (input,), "outer": a ()}`.

    Raises:
        ValueError: as `theory.relu_unit_zero_truth`.

    Example:
        >>> from slt_jax.models.singular import relu_unit
        >>> relu_unit(1).coefficient
        LearningCoefficient(learning_coefficient=Fraction(1, 2), multiplicity=2)
    """
    coefficient = theory.relu_unit_zero_truth(input_dim)
    points = _white_inputs(input_dim)
    center = {"inner": jnp.zeros(input_dim), "outer": jnp.zeros(())}
    name = f"ReLU unit, {input_dim} input{'s' if input_dim > 1 else ''}"
    return KnownModel(name, _relu_loss, jnp.concatenate([points, -points]), center, coefficient)


def _relu_loss(params: Params, batch: Float[Array, "batch input"]) -> Float[Array, " batch"]:
    return 0.5 * (params["outer"] * jax.nn.relu(batch @ params["inner"])) ** 2


def _white_inputs(dimension: int) -> Float[Array, "dimension dimension"]:
    """As many inputs as dimensions, with empirical second moment exactly I."""
    return jnp.sqrt(float(dimension)) * jnp.eye(dimension)
