"""Hessian products against dense Hessians, eigenpairs against numpy, in the spectra that break eigensolvers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slt_jax.linalg import hessian_matvec, hessian_vector_product, mean_over_examples, top_eigenpairs


def tiny_loss(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["in"])
    return (hidden @ params["out"] - batch["y"]) ** 2


@pytest.fixture
def tiny():
    keys = jax.random.split(jax.random.key(0), 4)
    params = {"in": jax.random.normal(keys[0], (3, 4)), "out": jax.random.normal(keys[1], (4,))}
    data = {"x": jax.random.normal(keys[2], (23, 3)), "y": jax.random.normal(keys[3], (23,))}
    return params, data


def dense_hessian(params, data):
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda w: jnp.mean(tiny_loss(unravel(w), data)))(flat)


@pytest.mark.parametrize("chunk_size", [None, 23, 7, 1, 100])
def test_hessian_products_equal_the_dense_hessian_whatever_the_chunks(tiny, chunk_size):
    params, data = tiny
    vector = jax.tree.map(jnp.cos, params)
    product = hessian_vector_product(tiny_loss, params, data, vector, chunk_size=chunk_size)
    expected = dense_hessian(params, data) @ ravel_pytree(vector)[0]
    np.testing.assert_allclose(ravel_pytree(product)[0], expected, rtol=2e-5, atol=2e-5)
    flat = hessian_matvec(tiny_loss, params, data, chunk_size=chunk_size)(ravel_pytree(vector)[0])
    np.testing.assert_allclose(flat, expected, rtol=2e-5, atol=2e-5)


def test_mean_over_examples_weighs_the_last_short_chunk_by_its_size():
    data = jnp.arange(7.0)
    assert mean_over_examples(jnp.mean, data, 3) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="chunk_size = 0"):
        mean_over_examples(jnp.mean, data, 0)


def test_new_parameters_and_data_do_not_recompile(tiny):
    params, data = tiny
    traces = []

    @jax.jit
    def top(key, matvec):
        traces.append(0)
        return top_eigenpairs(key, matvec, 16, 2, block_size=2, num_matvecs=8)

    for scale in (1.0, 2.0, 3.0):
        top(jax.random.key(0), hessian_matvec(tiny_loss, jax.tree.map(partial(jnp.multiply, scale), params), data))
    assert len(traces) == 1


SPECTRA = {
    "decaying": 1e3 * np.exp(-np.arange(600) / 20),
    "one copy of each": np.linspace(1, -1, 600) + np.where(np.arange(600) < 12, 3, 0),
    "low rank, repeated": np.where(np.arange(600) < 10, 7.0, 0.0),
    "zero": np.zeros(600),
    "negative": -np.where(np.arange(600) < 8, 1.0 + np.arange(600), 500.0 + np.arange(600)),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_leading_eigenpairs_match_numpy(name):
    spectrum, rank = SPECTRA[name], 8
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(600, 600)))[0]
    matrix = jnp.asarray(rotation * spectrum @ rotation.T, jnp.float32)
    pairs = top_eigenpairs(jax.random.key(1), lambda v: matrix @ v, 600, rank, num_matvecs=160)
    scale = max(np.abs(spectrum).max(), 1.0)
    expected = np.sort(spectrum)[::-1][:rank]
    np.testing.assert_allclose(pairs.vectors.T @ pairs.vectors, np.eye(rank), atol=1e-4)
    np.testing.assert_allclose(pairs.values, expected, atol=1e-4 * scale)
    np.testing.assert_allclose(
        jnp.sum(pairs.vectors * (matrix @ pairs.vectors), axis=0), pairs.values, atol=1e-4 * scale
    )


def test_small_operators_are_solved_exactly(tiny):
    params, data = tiny
    matrix = dense_hessian(params, data)
    pairs = top_eigenpairs(jax.random.key(0), hessian_matvec(tiny_loss, params, data), 16, 16)
    expected = np.linalg.eigvalsh(matrix)[::-1]
    np.testing.assert_allclose(pairs.values, expected, atol=1e-4 * expected[0])
    rebuilt = (pairs.vectors * pairs.values[None, :]) @ pairs.vectors.T
    np.testing.assert_allclose(rebuilt, matrix, atol=1e-4 * expected[0])


@pytest.mark.parametrize(
    ("rank", "options", "message"),
    [
        (0, {}, "rank = 0"),
        (11, {}, "rank = 11"),
        (4, {"num_matvecs": 3}, "num_matvecs = 3"),
        (4, {"block_size": 0}, "block_size = 0"),
    ],
)
def test_impossible_requests_are_refused(rank, options, message):
    with pytest.raises(ValueError, match=message):
        top_eigenpairs(jax.random.key(0), lambda v: v, 10, rank, **options)
