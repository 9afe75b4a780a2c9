"""The linear-regression transformer against a forward pass in plain numpy, written from its description alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slt_jax.data.in_context_regression import sample_sequences
from slt_jax.linalg import hessian_vector_product
from slt_jax.models.regression_transformer import RegressionTransformer, predictions, squared_error_loss, tokens
from slt_jax.trees import num_parameters

MODEL = RegressionTransformer()
TINY = RegressionTransformer(task_dim=2, num_examples=3, width=8, num_heads=2, num_layers=2, hidden=8)


def draw_batch(model, size, seed=0):
    sizes = {"task_dim": model.task_dim, "num_examples": model.num_examples}
    return sample_sequences(jax.random.key(seed), size, **sizes)


@partial(jax.jit, static_argnums=0)
def init_from(model, key):
    return model.init(key, tokens(draw_batch(model, 1)))["params"]


def init(model, seed=0):
    return init_from(model, jax.random.key(seed))


@partial(jax.jit, static_argnums=0)
def predict(model, params, batch):
    return predictions(model, params, batch)


def trained_looking(model, seed=0):
    """Parameters in which every scale, bias and weight differs from its initial value, so that all of them matter."""
    flat, unravel = ravel_pytree(init(model, seed))
    return unravel(flat + 0.1 * jax.random.normal(jax.random.key(seed + 1), flat.shape))


def numpy_predictions(params, x, y):
    """ŷ (batch, K) in float64: the description of the model, one sequence and one head at a time."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    return np.stack([numpy_sequence(params, *pair) for pair in zip(np.float64(x), np.float64(y), strict=True)])


def numpy_sequence(params, x, y):
    num_examples, task_dim = x.shape
    sequence = np.zeros((2 * num_examples, task_dim + 1))
    for k in range(num_examples):
        sequence[2 * k, 1:] = x[k]
        sequence[2 * k + 1, 0] = y[k]
    stream = sequence @ params["token_embedding"] + params["position_embedding"]
    for layer in range(sum(name.startswith("block_") for name in params)):
        block = params[f"block_{layer}"]
        attended = numpy_attention(block["attention"], numpy_norm(block["attention_norm"], stream))
        inner = stream + attended
        hidden = numpy_dense(block["mlp"]["in"], numpy_norm(block["mlp_norm"], inner))
        returned = inner + numpy_dense(block["mlp"]["out"], np.maximum(hidden, 0))
        stream = stream + returned  # the published loop adds the block's input once more
    return numpy_dense(params["unembedding"], numpy_norm(params["final_norm"], stream))[::2, 0]


def numpy_norm(params, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * params["scale"] + params["bias"]


def numpy_dense(params, x):
    return x @ params["kernel"] + params["bias"]


def numpy_attention(params, x):
    num_heads, head_size = params["qkv"].shape[2:]
    out = np.zeros_like(x)
    for head in range(num_heads):
        query, key, value = (x @ params["qkv"][:, part, head] for part in range(3))
        for position in range(len(x)):
            weights = np.exp(key[: position + 1] @ query[position] / head_size**0.5)
            out[position] += (weights / weights.sum()) @ value[: position + 1] @ params["out"][head]
    return out


@pytest.mark.parametrize("model", [MODEL, TINY], ids=["paper", "tiny"])
@pytest.mark.parametrize("parameters", [init, trained_looking], ids=["initial", "perturbed"])
def test_predictions_equal_a_plain_numpy_forward_pass(model, parameters):
    params, batch = parameters(model), draw_batch(model, 6)
    expected = numpy_predictions(params, batch["x"], batch["y"])
    np.testing.assert_allclose(predict(model, params, batch), expected, rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_squared_error_averaged_over_the_examples_of_a_sequence():
    params, batch = trained_looking(TINY), draw_batch(TINY, 6)
    expected = ((numpy_predictions(params, batch["x"], batch["y"]) - np.asarray(batch["y"])) ** 2).mean(-1)
    losses = squared_error_loss(TINY)(params, batch)
    assert losses.shape == (6,)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)


def test_it_has_the_papers_number_of_parameters():
    assert num_parameters(init(MODEL)) == 51_717


def test_it_starts_a_third_above_the_loss_of_the_zero_predictor():
    # Zero scores E y² = D + 0.125 = 4.125. A prediction is a bias and a product of the final norm's output, of 64
    # coordinates of mean square 1, with weights of variance 1/(3·64), blind to y at first: 1/3 + 1/192 on top.
    batch, keys = draw_batch(MODEL, 256), jax.random.split(jax.random.key(0), 64)
    losses = jax.jit(lambda key: jnp.mean(squared_error_loss(MODEL)(init_from(MODEL, key), batch)))
    per_seed = np.asarray(jax.lax.map(losses, keys))
    error = per_seed.std() / 8
    assert abs(per_seed.mean() - (np.mean(np.square(batch["y"])) + 1 / 3 + 1 / 192)) < 3 * error
    assert error < 0.1
    assert 4.1 < np.median(per_seed) < 4.6


def test_initial_weights_fill_the_interval_of_the_fan_in_rule():
    params = init(MODEL)
    fan_ins = {"token_embedding": 5, "position_embedding": 16}
    leaves = {name: params[name] for name in fan_ins}
    leaves["qkv"], fan_ins["qkv"] = params["block_1"]["attention"]["qkv"], 64
    leaves["mlp bias"], fan_ins["mlp bias"] = params["block_0"]["mlp"]["in"]["bias"], 64
    leaves["head"], fan_ins["head"] = params["unembedding"]["kernel"], 64
    for name, leaf in leaves.items():
        bound = fan_ins[name] ** -0.5
        assert 0.9 * bound < float(jnp.max(jnp.abs(leaf))) <= bound, name


@pytest.mark.parametrize("position", [1, 2, 7, 15])
def test_no_output_depends_on_a_later_token(position):
    params, inputs = trained_looking(MODEL), tokens(draw_batch(MODEL, 3))
    changed = inputs.at[:, position:].add(1.0)
    before, after = (jax.jit(MODEL.apply)({"params": params}, each) for each in (inputs, changed))
    np.testing.assert_array_equal(before[:, :position], after[:, :position])
    assert np.all(np.any(np.asarray(before[:, position] != after[:, position]), axis=-1))


def test_a_prediction_sees_neither_its_own_label_nor_later_examples():
    params, batch = trained_looking(MODEL), draw_batch(MODEL, 3)
    hidden = {"x": batch["x"].at[:, 5:].set(9.0), "y": batch["y"].at[:, 4:].set(-9.0)}
    np.testing.assert_array_equal(predict(MODEL, params, batch)[:, :5], predict(MODEL, params, hidden)[:, :5])


def test_sequences_of_a_batch_do_not_see_each_other():
    params, batch = trained_looking(MODEL), draw_batch(MODEL, 4)
    alone = [predict(MODEL, params, jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], batch))[0] for i in range(4)]
    np.testing.assert_allclose(predict(MODEL, params, batch), np.stack(alone), atol=1e-5)


def test_the_gradient_agrees_with_finite_differences_of_the_numpy_model():
    params, batch = trained_looking(TINY), draw_batch(TINY, 4)
    gradient, _ = ravel_pytree(jax.jit(jax.grad(lambda p: jnp.mean(squared_error_loss(TINY)(p, batch))))(params))
    flat, _ = ravel_pytree(params)

    def loss(vector):
        x, y = np.asarray(batch["x"]), np.asarray(batch["y"])
        return np.mean((numpy_predictions(split_like(params, vector), x, y) - y) ** 2)

    flat = np.float64(flat)
    for seed in range(5):
        direction = np.random.default_rng(seed).normal(size=flat.shape)
        slope = (loss(flat + 1e-5 * direction) - loss(flat - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(direction @ np.float64(gradient), slope, rtol=1e-4)


def split_like(tree, vector):
    """`vector` cut into the shapes of `tree`, in float64 (jax's own unravel would round to float32)."""
    leaves, structure = jax.tree.flatten(tree)
    ends = np.cumsum([leaf.size for leaf in leaves])
    pieces = np.split(vector, ends[:-1])
    return jax.tree.unflatten(structure, [p.reshape(leaf.shape) for p, leaf in zip(pieces, leaves, strict=True)])


def test_hessian_vector_products_agree_with_finite_differences_of_the_gradient():
    with jax.enable_x64(True):
        params, batch = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), (trained_looking(TINY), draw_batch(TINY, 16))
        )
        loss_fn = squared_error_loss(TINY)
        flat, unravel = ravel_pytree(params)
        gradient = jax.jit(lambda w: ravel_pytree(jax.grad(lambda p: jnp.mean(loss_fn(p, batch)))(unravel(w)))[0])
        direction = jax.random.normal(jax.random.key(5), flat.shape, jnp.float64)
        expected = (gradient(flat + 1e-6 * direction) - gradient(flat - 1e-6 * direction)) / 2e-6
        product, _ = ravel_pytree(jax.jit(partial(hessian_vector_product, loss_fn))(params, batch, unravel(direction)))
        np.testing.assert_allclose(product, expected, atol=1e-5 * float(jnp.max(jnp.abs(expected))))


def test_attention_patterns_can_be_looked_at():
    params, inputs = trained_looking(MODEL), tokens(draw_batch(MODEL, 3))
    _, seen = MODEL.apply({"params": params}, inputs, mutable=["intermediates"])
    (pattern,) = seen["intermediates"]["block_0"]["attention"]["pattern"]
    assert pattern.shape == (3, 4, 16, 16)
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)


def test_a_loss_function_of_equal_models_is_one_object_so_that_it_compiles_once():
    assert squared_error_loss(RegressionTransformer()) is squared_error_loss(RegressionTransformer())
