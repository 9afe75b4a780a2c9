"""The local posterior, restrictions, and what is refused with one clear sentence."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.posterior import (
    LocalPosterior,
    by_path,
    by_slice,
    check_posterior,
    default_nbeta,
    example_losses,
    minibatch_excess_and_gradient,
    minibatch_loss,
    restrict,
)


def quadratic(params, batch):
    return batch["x"] @ params["heads"]["kernel"].sum(axis=(0, 1)) + jnp.sum(params["bias"] ** 2)


def make_posterior(n=7, **changes):
    center = {"heads": {"kernel": jnp.arange(24.0).reshape(2, 4, 3)}, "bias": jnp.ones(2)}
    settings = {"data": {"x": jax.random.normal(jax.random.key(0), (n, 3))}, "center": center, "nbeta": 5.0}
    return LocalPosterior(**{"loss_fn": quadratic, "localization": 1.0, **settings, **changes})


def test_default_nbeta():
    assert default_nbeta(1000) == pytest.approx(1000 / np.log(1000))
    with pytest.raises(ValueError, match="n = 1 examples"):
        default_nbeta(1)


@pytest.mark.parametrize("chunk_size", [2, 3, 7, 100])
def test_example_losses_do_not_depend_on_the_chunks(chunk_size):
    posterior = make_posterior()
    expected = posterior.losses(posterior.center, posterior.data)
    np.testing.assert_allclose(example_losses(posterior, posterior.center, chunk_size), expected, rtol=1e-6)
    np.testing.assert_allclose(minibatch_loss(posterior, posterior.center, None), expected.mean(), rtol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 6, 100])
@pytest.mark.parametrize("indices", [None, jnp.array([4, 0, 0, 3, 6, 1])])
def test_a_gradient_taken_in_parts_is_the_gradient(chunk_size, indices):
    whole, parts = make_posterior(), make_posterior(chunk_size=chunk_size)
    expected = jax.value_and_grad(minibatch_loss, argnums=1)(whole, whole.center, indices)
    loss, excess, gradient = minibatch_excess_and_gradient(parts, parts.center, indices)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5), (loss, gradient), expected)
    assert float(excess) == 0.0


@pytest.mark.parametrize("known", [False, True])
def test_a_large_constant_costs_the_excess_no_digits(known):
    """1e6 is rounded to sixteenths; a mean taken before the difference would be off by that, this is off by its noise."""
    posterior = make_posterior(n=64)
    shifted = replace(posterior, loss_fn=lambda params, batch: 8192.0 + quadratic(params, batch))
    if known:
        shifted = replace(shifted, center_losses=shifted.losses(shifted.center, shifted.data))
    params = jax.tree.map(lambda leaf: leaf + 0.1, posterior.center)
    expected = minibatch_loss(posterior, params, None) - minibatch_loss(posterior, posterior.center, None)
    excess = minibatch_excess_and_gradient(shifted, params, None)[1]
    np.testing.assert_allclose(excess, expected, atol=1e-3)


def test_a_chunk_size_survives_a_restriction():
    assert restrict(make_posterior(chunk_size=2), by_path("bias")).chunk_size == 2


@pytest.mark.parametrize("restriction", [by_path("bias"), by_path("*"), by_slice({"heads/*": 1}, 2)])
def test_restriction_puts_back_what_it_took(restriction):
    posterior = make_posterior()
    restricted = restrict(posterior, restriction)
    assert jax.tree.structure(restricted.full_params(restricted.center)) == jax.tree.structure(posterior.center)
    jax.tree.map(np.testing.assert_array_equal, restricted.full_params(restricted.center), posterior.center)


def test_slices_are_a_vmap_axis_and_change_only_their_slice():
    posterior = make_posterior()

    def moved(index):
        restricted = restrict(posterior, by_slice({"heads/kernel": 1}, index))
        return restricted.full_params(jax.tree.map(lambda leaf: leaf + 100.0, restricted.center))["heads"]["kernel"]

    kernels = jax.vmap(moved)(jnp.arange(4))
    for index in range(4):
        difference = np.asarray(kernels[index] - posterior.center["heads"]["kernel"])
        expected = np.zeros((2, 4, 3))
        expected[:, index] = 100.0
        np.testing.assert_array_equal(difference, expected)


@pytest.mark.parametrize(
    ("restriction", "message"),
    [
        (by_path("nothing/*"), "matches no parameter; there are: bias, heads/kernel"),
        (by_path(), "takes no parameters"),
        (by_slice({"heads/kernel": 1}, 4), "outside 0..3"),
    ],
)
def test_useless_restrictions_are_refused(restriction, message):
    with pytest.raises(ValueError, match=message):
        restrict(make_posterior(), restriction)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_fn": lambda p, b: jnp.mean(quadratic(p, b))}, "one loss per example"),
        ({"data": {"x": jnp.ones((3, 3)), "y": jnp.ones(4)}}, "unequal leading axes"),
        ({"data": {"x": jnp.ones((0, 3))}}, "n = 0"),
        ({"data": {}}, "no arrays"),
        ({"chunk_size": 0}, "chunk_size = 0"),
        ({"nbeta": 0.0}, "nbeta = 0.0"),
        ({"nbeta": float("nan")}, "nbeta = nan"),
        ({"localization": -1.0}, "localization = -1.0"),
        ({"center": {"heads": {"kernel": jnp.ones((2, 4, 3), int)}, "bias": jnp.ones(2)}}, "floating-point"),
    ],
)
def test_bad_posteriors_are_refused_in_one_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        check_posterior(make_posterior(**changes))
