"""The toy model of superposition, ReLU(W^T W x + b) with two hidden dimensions (arXiv 2310.06301), in two forms.

Parameters are `{"weights": (2, c), "biases": (c,)}`. `population_losses` takes features as examples and integrates over their
scale exactly: with all c of them as data, L_n is the population loss, without sampling noise. `example_losses` takes drawn
examples, for training by SGD and for posteriors of a data set.
"""

import jax
import jax.numpy as jnp

from slt_jax.theory.superposition import Polygon, squared_error, squared_error_gradient
from slt_jax.typing import Array, Batch, Params, PRNGKey

__all__ = ["example_losses", "initial_params", "population_loss", "population_losses", "sample_examples", "to_params"]


def population_losses(params: Params, features: Batch) -> Array:
    """The exact mean squared error of each feature, `(batch,)`; `features` are indices.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.models.superposition import initial_params, population_losses
        >>> population_losses(initial_params(jax.random.key(0), 6), jnp.arange(6)).shape
        (6,)
    """
    return _errors(params).sum(axis=0)[features]


def population_loss(params: Params) -> Array:
    """L, the mean over all features: a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.models.superposition import population_loss, to_params
        >>> from slt_jax.theory.superposition import polygon
        >>> bool(abs(population_loss(to_params(polygon(6, 5))) - polygon(6, 5).loss) < 1e-6)
        True
    """
    return _errors(params).sum() / params["biases"].shape[0]


def _errors(params: Params) -> Array:
    """The mean squared error of every output for every feature, `(output, input)`."""
    first, second = params["weights"]
    # w_j·w_i, without a matrix product, whose precision depends on the device
    slopes = first[:, None] * first[None, :] + second[:, None] * second[None, :]
    biases = jnp.broadcast_to(params["biases"][:, None], slopes.shape)
    return _integral(slopes, biases, jnp.eye(slopes.shape[0], dtype=slopes.dtype))


@jax.custom_jvp
def _integral(slopes: Array, biases: Array, own: Array) -> Array:
    """`squared_error` with its gradient in closed form."""
    return squared_error(slopes, biases, own)


@_integral.defjvp
def _integral_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    by_slope, by_bias = squared_error_gradient(*primals)
    return _integral(*primals), by_slope * tangents[0] + by_bias * tangents[1]


def example_losses(params: Params, batch: Batch) -> Array:
    """Squared errors of drawn examples, `(batch,)`, as `sample_examples` makes them.

    Example:
        >>> import jax
        >>> from slt_jax.models.superposition import example_losses, initial_params, sample_examples
        >>> batch = sample_examples(jax.random.key(0), 10, 6)
        >>> example_losses(initial_params(jax.random.key(1), 6), batch).shape
        (10,)
    """
    weights, biases = params["weights"], params["biases"]
    slopes = (weights.T @ weights)[batch["feature"]]  # w_j·w_i; symmetric, so (example, output)
    outputs = jax.nn.relu(batch["scale"][:, None] * slopes + biases[None, :])
    truth = batch["scale"][:, None] * jax.nn.one_hot(batch["feature"], weights.shape[1])
    return jnp.sum((truth - outputs) ** 2, axis=1)


def sample_examples(key: PRNGKey, count: int, features: int) -> Batch:
    """`count` examples: the index of the feature that is on, and its scale in [0, 1).

    Example:
        >>> import jax
        >>> from slt_jax.models.superposition import sample_examples
        >>> sorted((name, leaf.shape) for name, leaf in sample_examples(jax.random.key(0), 10, 6).items())
        [('feature', (10,)), ('scale', (10,))]
    """
    which, scale = jax.random.split(key)
    return {
        "feature": jax.random.randint(which, (count,), 0, features),
        "scale": jax.random.uniform(scale, (count,)),
    }


def initial_params(key: PRNGKey, features: int, scale: float = 1.0) -> Params:
    """Independent normal weights of standard deviation `scale`, biases 0.

    Example:
        >>> import jax
        >>> from slt_jax.models.superposition import initial_params
        >>> sorted((name, leaf.shape) for name, leaf in initial_params(jax.random.key(0), 6).items())
        [('biases', (6,)), ('weights', (2, 6))]
    """
    return {"weights": scale * jax.random.normal(key, (2, features)), "biases": jnp.zeros(features)}


def to_params(phase: Polygon) -> Params:
    """The parameters of a polygon, in float32.

    Example:
        >>> from slt_jax.models.superposition import to_params
        >>> from slt_jax.theory.superposition import polygon
        >>> sorted((name, leaf.shape) for name, leaf in to_params(polygon(6, 5)).items())
        [('biases', (6,)), ('weights', (2, 6))]
    """
    return {
        "weights": jnp.asarray(phase.weights, jnp.float32),
        "biases": jnp.asarray(phase.biases, jnp.float32),
    }
