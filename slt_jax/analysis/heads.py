"""How the function of one attention head moves: what changes when it alone is exchanged, and how fast noise on it is trained away."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slt_jax.models.language_model import LanguageModel, head_axes
from slt_jax.restrictions import Restriction, by_slice
from slt_jax.typing import Params, PRNGKey

__all__ = ["half_life", "head_movement", "noisy_head", "prediction_distance"]


def _head(layer: int, head: Array | int) -> Restriction:
    return by_slice(head_axes(layer), head)


@partial(jax.jit, static_argnames="model")
def prediction_distance(
    model: LanguageModel, first: Params, second: Params, tokens: Int[Array, "batch context"]
) -> Float[Array, ""]:
    """Mean over positions of KL(p_first || p_second) between the predictions of two sets of parameters, in nats."""
    before, after = (jax.nn.log_softmax(model.apply({"params": one}, tokens)) for one in (first, second))  # type: ignore[arg-type]
    return jnp.mean(jnp.sum(jnp.exp(before) * (before - after), axis=-1))


@partial(jax.jit, static_argnames="model")
def head_movement(
    model: LanguageModel, before: Params, after: Params, tokens: Int[Array, "batch context"]
) -> Float[Array, "layer head"]:
    """How far each head's function has moved: KL(p_before || p), p with that head alone as it is `after`; in nats.

    A head is its queries, keys, values and its part of the output, as in `head_axes`.

    Args:
        model: the network.
        before, after: parameters before and after some training.
        tokens: sequences the predictions are compared on.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.analysis.heads import head_movement
        >>> from slt_jax.models import language_model
        >>> model = language_model.LanguageModel(vocab_size=5, context=4, embed_dim=4, num_heads=2, num_layers=1)
        >>> params = language_model.init(jax.random.key(0), model)
        >>> head_movement(model, params, params, jnp.array([[0, 1, 2, 3]])).tolist()
        [[0.0, 0.0]]
    """

    def exchanged(layer: int, head: Array) -> Array:
        part = _head(layer, head)
        return prediction_distance(model, before, part.put(before, part.take(after)), tokens)

    heads = jnp.arange(model.num_heads)
    return jnp.stack([jax.lax.map(partial(exchanged, layer), heads) for layer in range(model.num_layers)])


def noisy_head(key: PRNGKey, params: Params, layer: int, head: Array | int, size: float) -> Params:
    """`params` with Gaussian noise on one head: on each of its arrays `size` times the root mean square of that array."""
    part = _head(layer, head)
    taken = part.take(params)
    keys = jax.random.split(key, len(taken))
    noisy = {
        name: leaf + size * jnp.sqrt(jnp.mean(leaf**2)) * jax.random.normal(one, leaf.shape)
        for one, (name, leaf) in zip(keys, sorted(taken.items()), strict=True)
    }
    return part.put(params, noisy)


def half_life(steps: Float[np.ndarray, "step"], excess: Float[np.ndarray, "*more step"]) -> np.ndarray:
    """When an excess has first fallen to half of what it was at the first step.

    Between two steps its logarithm is taken to be straight, where both are positive, or else the excess itself.

    Args:
        steps: ascending, the first where the excess begins.
        excess: of the loss, say.

    Returns:
        Steps since the first; infinite where it was not reached, NaN where the excess did not begin positive.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.heads import half_life
        >>> float(half_life(np.array([0.0, 10.0, 20.0]), np.exp(-np.array([0.0, 10.0, 20.0]) / 10)).round(3))
        6.931
    """
    rows = np.atleast_2d(excess)
    found = np.array([_half_life_of(np.asarray(steps, float), row) for row in rows.reshape(-1, rows.shape[-1])])
    return found.reshape(np.shape(excess)[:-1])


def _half_life_of(steps: np.ndarray, row: np.ndarray) -> float:
    if not row[0] > 0:
        return np.nan
    below = np.flatnonzero(row <= row[0] / 2)
    if not below.size:
        return np.inf
    end = below[0]
    upper, lower, half = row[end - 1], row[end], row[0] / 2
    share = np.log(upper / half) / np.log(upper / lower) if lower > 0 else (upper - half) / (upper - lower)
    return float(steps[end - 1] + share * (steps[end] - steps[end - 1]) - steps[0])
