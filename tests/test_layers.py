"""Layer normalisation and causal attention: the formulas, and every derivative of their hand-written backward passes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slt_jax.models.layers import NORM_EPSILON, attention_pattern, causal_attention, layer_norm


def plain_layer_norm(x, scale, bias):
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + NORM_EPSILON) * scale[None] + bias[None]


def plain_attention(qkv):
    query, key, value = (qkv[:, :, i] for i in range(3))
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(qkv.shape[-1])
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))[None, None]
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(causal, scores, -jnp.inf), axis=-1), value)


def norm_arguments():
    x_key, scale_key, bias_key = jax.random.split(jax.random.key(0), 3)
    return 3 * jax.random.normal(x_key, (5, 7)) + 1, jax.random.normal(scale_key, 7), jax.random.normal(bias_key, 7)


def attention_arguments():
    return (jax.random.normal(jax.random.key(1), (3, 6, 3, 2, 4)),)


CASES = pytest.mark.parametrize(
    ("ours", "plain", "arguments"),
    [(layer_norm, plain_layer_norm, norm_arguments()), (causal_attention, plain_attention, attention_arguments())],
    ids=["layer_norm", "causal_attention"],
)


def curved(function):
    """A scalar whose first and second derivatives see every output coordinate with its own, varying, weight."""

    def scalar(*arguments):
        out = function(*arguments)
        weights = jax.random.normal(jax.random.key(2), out.shape)
        return jnp.sum(weights * out + jnp.sin(out))

    return scalar


def assert_trees_close(actual, expected, tolerance):
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance)


@CASES
def test_values_and_gradients_equal_those_of_the_plain_formula(ours, plain, arguments):
    every = tuple(range(len(arguments)))
    actual = jax.jit(jax.value_and_grad(curved(ours), every))(*arguments)
    expected = jax.jit(jax.value_and_grad(curved(plain), every))(*arguments)
    assert_trees_close(actual, expected, 2e-5)


@CASES
def test_gradients_agree_with_finite_differences(ours, plain, arguments):
    del plain
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), arguments))
        value_and_gradient = jax.jit(jax.value_and_grad(lambda vector: curved(ours)(*unravel(vector))))
        _, gradient = value_and_gradient(flat)
        for seed in range(3):
            step = 1e-6 * jax.random.normal(jax.random.key(seed), flat.shape, jnp.float64)
            difference = value_and_gradient(flat + step)[0] - value_and_gradient(flat - step)[0]
            np.testing.assert_allclose(difference, 2 * jnp.vdot(gradient, step), rtol=1e-7)


@CASES
def test_hessian_vector_products_go_through_the_custom_rules(ours, plain, arguments):
    every = tuple(range(len(arguments)))
    keys = jax.random.split(jax.random.key(3), len(arguments))
    tangents = tuple(jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, arguments, strict=True))

    def product(function):  # forward over reverse, as linalg.hessian_vector_product
        return jax.jit(lambda *a: jax.jvp(jax.grad(curved(function), every), a, tangents)[1])(*arguments)

    assert_trees_close(product(ours), product(plain), 1e-4)


@CASES
def test_second_derivatives_in_reverse_mode(ours, plain, arguments):
    def squared_gradient(function, *a):
        return jnp.sum(jax.grad(curved(function))(*a) ** 2)

    actual, expected = (
        jax.jit(jax.grad(partial(squared_gradient, function)))(*arguments) for function in (ours, plain)
    )
    assert_trees_close(actual, expected, 2e-4)


@CASES
def test_gradients_under_vmap_are_those_of_each_alone(ours, plain, arguments):
    pair = tuple(jnp.stack([leaf, 2 * leaf]) for leaf in arguments)
    together = jax.jit(jax.vmap(jax.grad(curved(ours))))(*pair)
    alone = jax.jit(jax.grad(curved(plain)))
    for i in range(2):
        assert_trees_close(together[i], alone(*(leaf[i] for leaf in pair)), 2e-5)


def test_layer_norm_standardises_its_last_axis_and_ignores_shift_and_scale_of_its_input():
    x, _, _ = norm_arguments()
    out = layer_norm(x, jnp.ones(7), jnp.zeros(7))
    np.testing.assert_allclose(out.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(-1), 1, atol=1e-5)
    np.testing.assert_allclose(layer_norm(5 * x - 3, jnp.ones(7), jnp.zeros(7)), out, atol=1e-4)


def test_the_pattern_is_a_causal_probability():
    (qkv,) = attention_arguments()
    query, key, _ = jnp.moveaxis(qkv, (2, 3), (0, 2))
    pattern = np.asarray(attention_pattern(query, key))
    assert pattern.shape == (3, 2, 6, 6)
    assert np.all(pattern[..., np.triu_indices(6, 1)[0], np.triu_indices(6, 1)[1]] == 0.0)
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-6)


def test_large_scores_do_not_overflow_in_value_or_gradient():
    (qkv,) = attention_arguments()
    value, gradient = jax.value_and_grad(curved(causal_attention))(100 * qkv)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))
