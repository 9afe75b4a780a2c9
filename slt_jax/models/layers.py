"""Layer normalisation and causal attention with hand-written backward passes.

The formulas are the usual ones. They are written out because of what XLA does on a CPU with the automatic ones: it fuses
the cheap producers of a backward pass into every one of their consumers, so that each block of a residual network
recomputes those of the blocks above it, and two blocks cost four times one. Keeping the normalised activations and the
attention pattern behind an optimisation barrier makes each of them exist once. On an accelerator there are no barriers.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from slt_jax.backend import barrier, on_cpu
from slt_jax.typing import Array

__all__ = ["attention_pattern", "causal_attention", "layer_norm"]

NORM_EPSILON = 1e-5


@jax.custom_vjp
def layer_norm(
    x: Float[Array, "*rows width"], scale: Float[Array, " width"], bias: Float[Array, " width"]
) -> Float[Array, "*rows width"]:
    """(x - mean) / √(variance + 1e-5) · scale + bias over the last axis (Ba et al. 2016).

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.models.layers import layer_norm
        >>> layer_norm(jnp.array([[1.0, 3.0]]), jnp.ones(2), jnp.zeros(2)).round(3).tolist()
        [[-1.0, 1.0]]
    """
    return _layer_norm_forward(x, scale, bias)[0]


def _layer_norm_forward(x: Array, scale: Array, bias: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    inverse_std = jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + NORM_EPSILON)
    normed, inverse_std = barrier((centred * inverse_std, inverse_std))
    row = (1,) * (x.ndim - 1) + scale.shape
    return normed * scale.reshape(row) + bias.reshape(row), (normed, inverse_std, scale)


def _layer_norm_backward(saved: tuple[Array, Array, Array], cotangent: Array) -> tuple[Array, Array, Array]:
    normed, inverse_std, scale = saved
    rows = tuple(range(cotangent.ndim - 1))
    scaled = cotangent * scale.reshape((1,) * len(rows) + scale.shape)
    mean = jnp.mean(scaled, axis=-1, keepdims=True)
    projection = jnp.mean(scaled * normed, axis=-1, keepdims=True)
    to_input = inverse_std * (scaled - mean - normed * projection)
    to_scale, to_bias = jnp.sum(cotangent * normed, axis=rows), jnp.sum(cotangent, axis=rows)
    return barrier((to_input, to_scale, to_bias))


layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def attention_pattern(
    query: Float[Array, "batch head query size"], key: Float[Array, "batch head key size"]
) -> Float[Array, "batch head query key"]:
    """softmax over past and present keys of query·key/√size; exactly zero on the future.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.models.layers import attention_pattern
        >>> attention_pattern(jnp.zeros((1, 1, 2, 4)), jnp.zeros((1, 1, 2, 4)))[0, 0].tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) * query.shape[-1] ** -0.5
    length = scores.shape[-1]
    causal = jnp.tril(jnp.ones((1, 1, length, length), bool))
    highest = jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True, where=causal, initial=-jnp.inf))
    weights = jnp.where(causal, jnp.exp(jnp.where(causal, scores - highest, 0.0)), 0.0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


@jax.custom_vjp
def causal_attention(qkv: Float[Array, "batch position 3 head size"]) -> Float[Array, "batch position head size"]:
    """Values averaged by `attention_pattern(query, key)` (Vaswani et al. 2017).

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.models.layers import causal_attention
        >>> causal_attention(jnp.zeros((1, 5, 3, 2, 4))).shape
        (1, 5, 2, 4)
    """
    return _attention_forward(qkv)[0]


def _attention_forward(qkv: Array) -> tuple[Array, tuple[Array, ...]]:
    query, key, value = barrier(tuple(jnp.moveaxis(qkv, (2, 3), (0, 2))))
    pattern = barrier(attention_pattern(query, key))
    mixed = jnp.moveaxis(jnp.einsum("bhqk,bhkd->bhqd", pattern, value), 1, 2)
    return mixed, (query, key, value, pattern, mixed)


def _attention_backward(saved: tuple[Array, ...], cotangent: Array) -> tuple[Array]:
    query, key, value, pattern, mixed = saved
    # Σ_k pattern·to_pattern = Σ_d mixed·cotangent (Dao et al. 2022, appendix B): a shorter sum.
    expected = jnp.moveaxis(jnp.sum(cotangent * mixed, axis=-1), 1, 2)[..., None]
    cotangent = jnp.moveaxis(cotangent, 1, 2)
    to_pattern = jnp.einsum("bhqd,bhkd->bhqk", cotangent, value)
    to_scores = barrier(pattern * (to_pattern - expected) * query.shape[-1] ** -0.5)
    to_query = jnp.einsum("bhqk,bhkd->bhqd", to_scores, key)
    to_key = _transposed_product(to_scores, query)
    to_value = _transposed_product(pattern, cotangent)
    parts = [jnp.moveaxis(part, 1, 2)[:, :, None] for part in (to_query, to_key, to_value)]
    return (barrier(jnp.concatenate(parts, axis=2)),)


def _transposed_product(matrix: Array, operand: Array) -> Array:
    """matrixᵀ·operand over the last two axes. XLA's CPU backend is four times slower at a batch of products of this
    form than at writing the transpose out and multiplying by it."""
    if not on_cpu():
        return jnp.einsum("bhqk,bhqd->bhkd", matrix, operand)
    transpose = barrier(jnp.swapaxes(matrix, -1, -2))
    return jnp.einsum("bhkq,bhqd->bhkd", transpose, operand)


causal_attention.defvjp(_attention_forward, _attention_backward)
