"""Curvature estimates against exact matrices of a tiny network, closed forms, and a maintained library."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from slt_jax.estimators.curvature import (
    effective_dimension,
    fisher_trace,
    gaussian_effective_dimension,
    hessian_spectrum,
    hessian_trace,
)


def network_loss(params, batch):
    hidden = jnp.tanh(batch["x"] @ params["in"] + params["bias"][None])
    return jnp.sum((hidden @ params["out"] - batch["y"]) ** 2, axis=-1)


def tiny_network():
    keys = jax.random.split(jax.random.key(0), 5)
    params = {
        "in": jax.random.normal(keys[0], (3, 4)), "bias": jax.random.normal(keys[1], (4,)),
        "out": jax.random.normal(keys[2], (4, 2)),
    }  # fmt: skip
    data = {"x": jax.random.normal(keys[3], (37, 3)), "y": jax.random.normal(keys[4], (37, 2))}
    return params, data


def exact_hessian(params, data) -> np.ndarray:
    flat, unravel = ravel_pytree(params)
    return np.asarray(jax.hessian(lambda w: jnp.mean(network_loss(unravel(w), data)))(flat))


def test_trace_of_a_tiny_network_is_covered_by_its_error_bar():
    params, data = tiny_network()
    exact = np.trace(exact_hessian(params, data))

    def estimate(key):
        return hessian_trace(key, network_loss, params, data, num_probes=30)

    estimates = jax.vmap(estimate)(jax.random.split(jax.random.key(1), 100))
    z = (np.asarray(estimates.mean) - exact) / np.asarray(estimates.std_error)
    # 95% intervals, 100 repetitions: fewer than 88 covered has probability below 0.002
    assert (np.abs(z) < 1.96).sum() >= 88
    assert abs(z.mean()) < 0.4


def test_trace_does_not_depend_on_the_chunks():
    params, data = tiny_network()
    whole = hessian_trace(jax.random.key(2), network_loss, params, data, num_probes=4)
    chunked = hessian_trace(jax.random.key(2), network_loss, params, data, num_probes=4, chunk_size=10)
    np.testing.assert_allclose(whole.mean, chunked.mean, rtol=1e-4)


def test_trace_agrees_with_matfree():
    stochtrace = pytest.importorskip("matfree.stochtrace")
    params, data = tiny_network()
    flat, unravel = ravel_pytree(params)
    gradient = jax.grad(lambda w: jnp.mean(network_loss(unravel(w), data)))

    def product(vector):
        return jax.jvp(gradient, (flat,), (vector,))[1]

    estimator = stochtrace.estimator_monte_carlo(
        stochtrace.monte_carlo_trace(), stochtrace.sampler_signs(flat, num=2000)
    )
    theirs = float(estimator(product, jax.random.key(3)))
    ours = hessian_trace(jax.random.key(4), network_loss, params, data, num_probes=2000)
    # Both average 2,000 independent quadratic forms: their difference has √2 times our standard error.
    assert abs(theirs - float(ours.mean)) < 4 * 2**0.5 * float(ours.std_error)


def test_fisher_trace_is_the_mean_squared_gradient():
    params, data = tiny_network()
    norms = []
    for i in range(37):
        example = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], data)
        gradient = jax.grad(lambda w, example=example: network_loss(w, example)[0])(params)
        norms.append(float(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient))))
    estimate = fisher_trace(network_loss, params, data, chunk_size=8)
    np.testing.assert_allclose(estimate.mean, np.mean(norms), rtol=1e-5)
    np.testing.assert_allclose(estimate.std_error, np.std(norms, ddof=1) / 37**0.5, rtol=1e-4)


def test_fisher_trace_of_linear_regression_covers_its_population_value():
    # y = w·x + N(0, 1), x ~ N(0, I_5), loss ½(y - w·x)²: the Fisher information is E[x xᵀ] = I, of trace 5.
    def loss(w, batch):
        return 0.5 * (batch["y"] - batch["x"] @ w) ** 2

    def estimate(key):
        input_key, noise_key = jax.random.split(key)
        x = jax.random.normal(input_key, (400, 5))
        y = x @ jnp.arange(5.0) + jax.random.normal(noise_key, (400,))
        return fisher_trace(loss, jnp.arange(5.0), {"x": x, "y": y})

    estimates = jax.vmap(estimate)(jax.random.split(jax.random.key(5), 100))
    z = (estimates.mean - 5) / estimates.std_error
    assert int((jnp.abs(z) < 1.96).sum()) >= 86


def test_spectrum_is_exact_for_a_tiny_network():
    params, data = tiny_network()
    exact = np.linalg.eigvalsh(exact_hessian(params, data))[::-1]
    found = hessian_spectrum(jax.random.key(6), network_loss, params, data, rank=5)
    np.testing.assert_allclose(found, exact[:5], rtol=1e-3)


def test_effective_dimension_of_a_quadratic():
    curvature = np.asarray([4.0, 1.0, 0.25, 1e-3, 1e-3])
    nbeta, localization = 50.0, 2.0
    a = nbeta * curvature
    exact = 0.5 * np.sum(a / (a + localization))
    np.testing.assert_allclose(gaussian_effective_dimension(curvature, nbeta, localization), exact, rtol=1e-6)
    found = effective_dimension(curvature[:3], curvature.sum(), nbeta=nbeta, localization=localization)
    assert found.lower < exact < found.upper
    assert found.upper - exact < 1e-3
    # Downward curvature is no dimension.
    assert float(gaussian_effective_dimension(np.asarray([-1.0, 0.0]), nbeta, localization)) == 0


def test_checkpoints_share_one_compilation():
    params, data = tiny_network()
    before = hessian_trace._cache_size()
    for scale in (1.0, 1.1, 1.2):
        hessian_trace(
            jax.random.key(7), network_loss, jax.tree.map(lambda leaf, s=scale: s * leaf, params), data, num_probes=5
        )
    assert hessian_trace._cache_size() == before + 1


def test_bad_input_is_refused():
    params, data = tiny_network()
    with pytest.raises(ValueError, match="num_probes = 1"):
        hessian_trace(jax.random.key(0), network_loss, params, data, num_probes=1)
    with pytest.raises(ValueError, match="1 example"):
        fisher_trace(network_loss, params, jax.tree.map(lambda leaf: leaf[:1], data))
    with pytest.raises(ValueError, match="localization = 0"):
        effective_dimension(np.ones(2), 2.0, nbeta=1.0, localization=0.0)
    with pytest.raises(ValueError, match="rank = 0"):
        hessian_spectrum(jax.random.key(0), network_loss, params, data, rank=0)
