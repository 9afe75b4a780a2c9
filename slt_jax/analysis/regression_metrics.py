"""What an in-context regression transformer does and how it is built, checkpoint by checkpoint (arXiv 2402.02364, app. B).

Each metric is a pure function of parameters and data; compile once, call for every checkpoint.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from slt_jax.data.in_context_regression import ridge_predictions
from slt_jax.models.regression_transformer import RegressionTransformer, predictions
from slt_jax.trees import path_string, squared_norm
from slt_jax.typing import Array, Batch, Params

__all__ = ["behaviour", "icl_score", "norm_collapse", "weight_norm"]

COLLAPSED = 0.1  # a LayerNorm weight below this modulus counts as collapsed


@partial(jax.jit, static_argnames=("model", "noise_variance"))
def behaviour(
    model: RegressionTransformer, params: Params, batch: Batch, noise_variance: float = 0.125
) -> dict[str, Array]:
    """What the model predicts on `batch`.

    Returns:
        `loss`: mean squared error, a scalar. `loss_token`: the same per position k, `(K,)`. `zero_prediction`: mean squared
        prediction, 0 for a model that always answers zero. `distance_to_ridge`: mean squared difference from the
        Bayes-optimal predictor.
    """
    predicted = predictions(model, params, batch)
    squared_error = (predicted - batch["y"]) ** 2
    return {
        "loss": jnp.mean(squared_error),
        "loss_token": jnp.mean(squared_error, axis=0),
        "zero_prediction": jnp.mean(predicted**2),
        "distance_to_ridge": jnp.mean((predicted - ridge_predictions(batch, noise_variance)) ** 2),
    }


def icl_score(loss_token: Float[Array, "*axes example"]) -> Float[Array, "*axes"]:
    """In-context learning score: loss at the last example minus loss at the first."""
    return loss_token[..., -1] - loss_token[..., 0]


@jax.jit
def norm_collapse(params: Params) -> dict[str, Array]:
    """Share of weights with modulus below 0.1 in every LayerNorm, by its path ("final_norm", "block_0/mlp_norm", ...)."""
    return {
        path_string(path).removesuffix("/scale"): jnp.mean(jnp.abs(leaf) < COLLAPSED)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path_string(path).endswith("norm/scale")
    }


@jax.jit
def weight_norm(params: Params) -> Array:
    """Euclidean norm of all parameters, a scalar."""
    return jnp.sqrt(squared_norm(params))
