"""What an in-context regression transformer does and how it is built, checkpoint by checkpoint (arXiv 2402.02364, app. B).

Each metric is a pure function of parameters and data; compile once, call for every checkpoint.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float

from slt_jax.data.in_context_regression import ridge_predictions
from slt_jax.models.regression_transformer import RegressionTransformer, predictions, tokens
from slt_jax.trees import path_string, squared_norm
from slt_jax.typing import Array, Batch, Params

__all__ = [
    "attention",
    "behaviour",
    "effective_unembedding",
    "embedding_spectra",
    "icl_score",
    "norm_collapse",
    "norm_means",
    "out_of_distribution",
    "weight_norm",
]

COLLAPSED = 0.1  # a LayerNorm weight below this modulus counts as collapsed


@partial(jax.jit, static_argnames=("model", "noise_variance"))
def behaviour(
    model: RegressionTransformer,
    params: Params,
    batch: Batch,
    noise_variance: float = 0.125,
    task_mean: Float[Array, " dim"] | None = None,
) -> dict[str, Array]:
    """What the model predicts on `batch`.

    Args:
        model, params: the transformer.
        batch: sequences.
        noise_variance: σ² of the ridge predictor.
        task_mean: mean t̄ of the tasks trained on, 0 by default.

    Returns:
        `loss`: mean squared error, a scalar. `loss_token`: the same per position k, `(K,)`. `zero_prediction`: mean squared
        prediction, 0 for a model that always answers zero. `task_prior`: mean squared difference from t̄·x_k, what the task
        prior alone predicts; with a prior of mean zero the same as `zero_prediction`. `distance_to_ridge`: mean squared
        difference from the Bayes-optimal predictor.

    Example:
        >>> import jax
        >>> from slt_jax.analysis.regression_metrics import behaviour
        >>> from slt_jax.data.in_context_regression import sample_sequences
        >>> from slt_jax.models.regression_transformer import RegressionTransformer, tokens
        >>> model = RegressionTransformer(width=8, num_heads=2, num_layers=1, hidden=8)
        >>> batch = sample_sequences(jax.random.key(0), 4)
        >>> params = model.init(jax.random.key(1), tokens(batch))["params"]
        >>> behaviour(model, params, batch)["loss_token"].shape
        (8,)
    """
    predicted = predictions(model, params, batch)
    squared_error = (predicted - batch["y"]) ** 2
    prior = 0.0 if task_mean is None else batch["x"] @ task_mean
    return {
        "loss": jnp.mean(squared_error),
        "loss_token": jnp.mean(squared_error, axis=0),
        "zero_prediction": jnp.mean(predicted**2),
        "task_prior": jnp.mean((predicted - prior) ** 2),
        "distance_to_ridge": jnp.mean((predicted - ridge_predictions(batch, noise_variance)) ** 2),
    }


@partial(jax.jit, static_argnames="model")
def out_of_distribution(
    model: RegressionTransformer, params: Params, batch: Batch, scale: Float[Array, ""] | float
) -> dict[str, Array]:
    """In-context learning on sequences drawn with inputs or tasks `scale` times as large (`sample_sequences`).

    Returns:
        `icl_score`: (loss at the last example - loss at the first)/scale, as the paper plots it. `loss`: mean squared error.

    Example:
        >>> import jax
        >>> from slt_jax.analysis.regression_metrics import out_of_distribution
        >>> from slt_jax.data.in_context_regression import sample_sequences
        >>> from slt_jax.models.regression_transformer import RegressionTransformer, tokens
        >>> model = RegressionTransformer(width=8, num_heads=2, num_layers=1, hidden=8)
        >>> batch = sample_sequences(jax.random.key(0), 4, input_scale=3.0)
        >>> params = model.init(jax.random.key(1), tokens(batch))["params"]
        >>> sorted(out_of_distribution(model, params, batch, 3.0))
        ['icl_score', 'loss']
    """
    loss_token = jnp.mean((predictions(model, params, batch) - batch["y"]) ** 2, axis=0)
    return {"icl_score": icl_score(loss_token) / scale, "loss": jnp.mean(loss_token)}


def icl_score(loss_token: Float[Array, "*axes example"]) -> Float[Array, "*axes"]:
    """In-context learning score: loss at the last example minus loss at the first.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.analysis.regression_metrics import icl_score
        >>> float(icl_score(jnp.array([4.0, 3.0, 1.5])))
        -2.5
    """
    return loss_token[..., -1] - loss_token[..., 0]


@jax.jit
def norm_collapse(params: Params) -> dict[str, Array]:
    """Share of weights with modulus below 0.1 in every LayerNorm, by its path ("final_norm", "block_0/mlp_norm", ...).

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.analysis.regression_metrics import norm_collapse
        >>> norms = {"final_norm": {"scale": jnp.array([1.0, 0.05]), "bias": jnp.zeros(2)}}
        >>> {name: float(share) for name, share in norm_collapse(norms).items()}
        {'final_norm': 0.5}
    """
    return {name: jnp.mean(jnp.abs(scale) < COLLAPSED) for name, scale in _norm_scales(params).items()}


@jax.jit
def norm_means(params: Params) -> dict[str, Array]:
    """Mean modulus of the weights of every LayerNorm, by its path.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.analysis.regression_metrics import norm_means
        >>> norms = {"final_norm": {"scale": jnp.array([1.0, -0.5]), "bias": jnp.zeros(2)}}
        >>> {name: float(mean) for name, mean in norm_means(norms).items()}
        {'final_norm': 0.75}
    """
    return {name: jnp.mean(jnp.abs(scale)) for name, scale in _norm_scales(params).items()}


def _norm_scales(params: Params) -> dict[str, Array]:
    return {
        path_string(path).removesuffix("/scale"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if path_string(path).endswith("norm/scale")
    }


@jax.jit
def embedding_spectra(params: Params) -> dict[str, Array]:
    """Shares σᵢ²/Σσ² of the squared singular values, largest first.

    Returns:
        `token`: of the token embedding, `(D + 1,)`. `position`: of the position embedding, `(2K,)`.

    Example:
        >>> import jax
        >>> from slt_jax.analysis.regression_metrics import embedding_spectra
        >>> from slt_jax.data.in_context_regression import sample_sequences
        >>> from slt_jax.models.regression_transformer import RegressionTransformer, tokens
        >>> model = RegressionTransformer(width=8, num_heads=2, num_layers=1, hidden=8)
        >>> params = model.init(jax.random.key(1), tokens(sample_sequences(jax.random.key(0), 4)))["params"]
        >>> bool(abs(embedding_spectra(params)["token"].sum() - 1) < 1e-5)
        True
    """
    tables = {"token": params["token_embedding"], "position": params["position_embedding"]}
    squares = {name: jnp.linalg.svd(table, compute_uv=False) ** 2 for name, table in tables.items()}
    return {name: values / jnp.sum(values) for name, values in squares.items()}


@jax.jit
def effective_unembedding(params: Params) -> Float[Array, " width"]:
    """How each coordinate of the normalised residual stream moves the prediction: head row 0 times the final LayerNorm's weight.

    Example:
        >>> import jax
        >>> from slt_jax.analysis.regression_metrics import effective_unembedding
        >>> from slt_jax.data.in_context_regression import sample_sequences
        >>> from slt_jax.models.regression_transformer import RegressionTransformer, tokens
        >>> model = RegressionTransformer(width=8, num_heads=2, num_layers=1, hidden=8)
        >>> params = model.init(jax.random.key(1), tokens(sample_sequences(jax.random.key(0), 4)))["params"]
        >>> effective_unembedding(params).shape
        (8,)
    """
    return params["unembedding"]["kernel"][:, 0] * params["final_norm"]["scale"]


@jax.jit
def weight_norm(params: Params) -> Array:
    """Euclidean norm of all parameters, a scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.analysis.regression_metrics import weight_norm
        >>> float(weight_norm({"a": jnp.array([3.0]), "b": jnp.array([4.0])}))
        5.0
    """
    return jnp.sqrt(squared_norm(params))


@partial(jax.jit, static_argnames="model")
def attention(model: RegressionTransformer, params: Params, batch: Batch) -> dict[str, Float[Array, "layer head"]]:
    """How concentrated, how variable and how far-reaching every head's attention is, each of shape `(layer, head)`.

    Returns:
        `entropy`: of a query's pattern divided by log of the j + 1 tokens it can see, mean over queries j ≥ 1 and sequences; 1
        for uniform attention. `variability`: total variation distance ½ Σ|a - ā| from the pattern's mean over sequences; 0 for
        a head that only looks at positions. `distance`: mean distance in tokens between query and key under the pattern.

    Example:
        >>> import jax
        >>> from slt_jax.analysis.regression_metrics import attention
        >>> from slt_jax.data.in_context_regression import sample_sequences
        >>> from slt_jax.models.regression_transformer import RegressionTransformer, tokens
        >>> model = RegressionTransformer(width=8, num_heads=2, num_layers=1, hidden=8)
        >>> batch = sample_sequences(jax.random.key(0), 4)
        >>> params = model.init(jax.random.key(1), tokens(batch))["params"]
        >>> attention(model, params, batch)["entropy"].shape
        (1, 2)
    """
    outputs = model.apply({"params": params}, tokens(batch), mutable=["intermediates"])
    stored = outputs[1]["intermediates"]
    patterns = jnp.stack(
        [stored[f"block_{layer}"]["attention"]["pattern"][0] for layer in range(model.num_layers)]
    )  # (layer, batch, head, query, key)
    count = patterns.shape[-1]
    query = jnp.arange(count)
    entropy = -jnp.sum(jax.scipy.special.xlogy(patterns, patterns), axis=-1)[..., 1:]
    largest = jnp.log(query[1:] + 1.0).reshape(1, 1, 1, -1)
    mean_pattern = jnp.mean(patterns, axis=1, keepdims=True)
    variation = jnp.sum(jnp.abs(patterns - mean_pattern), axis=-1) / 2
    reach = (query[:, None] - query[None, :]).astype(patterns.dtype).reshape(1, 1, 1, count, count)
    return {
        "entropy": jnp.mean(entropy / largest, axis=(1, 3)),
        "variability": jnp.mean(variation, axis=(1, 3)),
        "distance": jnp.mean(jnp.sum(patterns * reach, axis=-1), axis=(1, 3)),
    }
