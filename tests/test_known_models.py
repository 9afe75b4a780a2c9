"""Models with a known learning coefficient: their losses, their exact finite-nβ values, and samplers against them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments.known_models import exact
from slt_jax import theory
from slt_jax.models import singular
from slt_jax.posterior import LocalPosterior, check_posterior

MODELS = [
    singular.quadratic([1.0, 0.1, 0.0]),
    singular.normal_crossing([2, 1]),
    singular.normal_crossing([1, 1, 1]),
    singular.reduced_rank(3, 2, 2, 1),
    singular.tanh_network(2),
    singular.relu_unit(1),
    singular.relu_unit(3),
]


def mean_loss(model, params):
    return jnp.mean(model.loss_fn(params, model.data))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_center_is_a_minimum_with_zero_loss(model):
    check_posterior(LocalPosterior(model.loss_fn, model.data, model.center, 10.0, 1.0))
    assert float(mean_loss(model, model.center)) == 0.0
    gradient = jax.grad(lambda params: mean_loss(model, params))(model.center)
    assert all(float(jnp.abs(leaf).max()) == 0.0 for leaf in jax.tree.leaves(gradient))


def test_losses_are_the_polynomials_they_claim_to_be():
    w = jnp.array([0.3, -0.7, 1.1])
    assert mean_loss(singular.quadratic([1.0, 0.1, 0.0]), w) == pytest.approx(0.5 * (0.09 + 0.1 * 0.49), rel=1e-6)
    assert mean_loss(singular.normal_crossing([2, 0, 1]), w) == pytest.approx(0.3**4 * 1.21, rel=1e-6)
    a, b = jnp.array([[0.2, -1.0, 0.5]]), jnp.array([[0.4], [2.0]])
    rank_one = singular.reduced_rank(3, 1, 2, 1)
    residual = np.asarray(b @ a) - np.diag([1.0, 0, 0])[:2]
    found = mean_loss(rank_one, {"layer_1": a, "layer_2": b})
    assert found == pytest.approx(0.5 * (residual**2).sum(), rel=1e-6)
    relu = singular.relu_unit(3)
    assert mean_loss(relu, {"inner": w, "outer": jnp.array(-2.0)}) == pytest.approx(float(w @ w), rel=1e-6)


def test_equal_settings_share_one_loss_function():
    assert singular.normal_crossing([1, 2]).loss_fn is singular.normal_crossing([1, 2]).loss_fn
    assert singular.quadratic([1.0]).loss_fn is singular.quadratic((1.0,)).loss_fn
    assert singular.tanh_network(1).loss_fn is singular.tanh_network(3).loss_fn


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: singular.quadratic([0.0]), "at least one is positive"),
        (lambda: singular.quadratic([1.0, -1.0]), "non-negative"),
        (lambda: singular.normal_crossing([0, 0]), "at least one positive"),
        (lambda: singular.reduced_rank(2, 2, 2, 3), "rank must be at most"),
        (lambda: singular.tanh_network(3, 5), "need at least 7"),
        (lambda: exact.tanh_llc(4, np.ones(9), 10.0, 1.0), "at most 3"),
        (lambda: exact.reduced_rank_llc(3, 3, 3, 10.0, 1.0), "one or two"),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def brute_force(model, nbeta, localization, half_width, points):
    """nβ E[L] on a plain grid over every parameter of `model`."""
    axis = np.linspace(-half_width, half_width, points)
    flat, unravel = ravel_pytree(model.center)
    total = weighted = 0.0
    losses = jax.jit(jax.vmap(lambda vector: mean_loss(model, unravel(vector))))
    for first in axis:
        rest = np.stack(np.meshgrid(*[axis] * (flat.size - 1), indexing="ij"), -1).reshape(-1, flat.size - 1)
        w = np.concatenate([np.full((len(rest), 1), first), rest], axis=1)
        energy = nbeta * np.asarray(losses(jnp.asarray(w, jnp.float32)), np.float64)
        weight = np.exp(-energy - localization / 2 * (w**2).sum(1))
        total, weighted = total + weight.sum(), weighted + (energy * weight).sum()
    return weighted / total


@pytest.mark.parametrize(
    ("model", "value", "points"),
    [
        (singular.normal_crossing([1, 1, 1]), lambda n, g: exact.normal_crossing_llc((1, 1, 1), n, g), 120),
        (singular.normal_crossing([2, 1]), lambda n, g: exact.normal_crossing_llc((2, 1), n, g), 400),
        (singular.reduced_rank(1, 2, 1), lambda n, g: exact.reduced_rank_llc(1, 2, 1, n, g), 40),
        (singular.reduced_rank(2, 1, 2), lambda n, g: exact.reduced_rank_llc(2, 1, 2, n, g), 40),
        (singular.tanh_network(1), lambda n, g: exact.tanh_llc(1, np.linspace(-1, 1, 20), n, g), 400),
        (singular.tanh_network(2), lambda n, g: exact.tanh_llc(2, np.linspace(-1, 1, 20), n, g), 40),
        (singular.relu_unit(1), lambda n, g: exact.relu_llc(1, n, g), 400),
        (singular.relu_unit(2), lambda n, g: exact.relu_llc(2, n, g), 120),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_reduced_quadrature_equals_a_plain_grid(model, value, points):
    # A moderate nβ, so that a plain grid resolves the ridge.
    assert value(20.0, 4.0) == pytest.approx(brute_force(model, 20.0, 4.0, 3.0, points), rel=2e-4)


@pytest.mark.parametrize("exponents", [(1, 1), (2, 2), (1, 1, 1)])
def test_finite_values_approach_the_asymptotic_ones(exponents):
    coefficient = theory.normal_crossing(exponents)
    lam, m = float(coefficient.learning_coefficient), coefficient.multiplicity
    nbetas = np.array([1e6, 1e12, 1e24])
    gaps = [lam - exact.normal_crossing_llc(exponents, nbeta, 1.0) for nbeta in nbetas]
    # λ - λ̂ = (m - 1)/(log nβ + constant): the product with log nβ tends to m - 1.
    products = np.array(gaps) * np.log(nbetas)
    assert np.all(np.diff(np.abs(products - (m - 1))) < 0)
    assert products[-1] == pytest.approx(m - 1, rel=0.1)
