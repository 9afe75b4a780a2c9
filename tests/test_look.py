"""The look at w*: what it sees of losses that cannot be differentiated twice, of all n examples, and of every chain of a sweep."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax import LocalPosterior, by_slice, sgld
from slt_jax.sampling.center import Center, generator, ritz_space, top_eigenvalue

KEY = jax.random.key(0)


def squares(w, batch):
    return 0.5 * (batch["x"] @ w - batch["y"]) ** 2


def least_squares(n=2000):
    x = jax.random.normal(jax.random.key(3), (n, 4))
    y = x @ jnp.arange(4.0) + jax.random.normal(jax.random.key(4), (n,))
    return LocalPosterior(squares, {"x": x, "y": y}, jnp.linalg.lstsq(x, y)[0], 263.0, 1.0)


@jax.custom_vjp
def half_square(r):
    return 0.5 * r**2


def _backward(r, cotangent):
    shape = jax.ShapeDtypeStruct(r.shape, r.dtype)
    return (jax.pure_callback(lambda a, b: np.asarray(a * b), shape, r, cotangent, vmap_method="sequential"),)


half_square.defvjp(lambda r: (half_square(r), r), _backward)


def once(w, batch):
    return half_square(batch["x"] @ w - batch["y"])


def test_a_loss_without_second_derivatives_is_sampled_and_named():
    posterior = replace(least_squares(), loss_fn=once)
    (finding,) = slt_jax.inspect(posterior, sgld(64), step_size=1e-4).findings
    assert finding.startswith("unseen: ")
    samples = slt_jax.sample(KEY, posterior, sgld(64), step_size=1e-4, num_chains=2, num_draws=10)
    assert "unseen: " in slt_jax.llc(samples).status
    with pytest.raises(ValueError, match=r"cannot be differentiated twice.*give step_size and num_burnin"):
        slt_jax.calibrate(KEY, posterior, kernel=sgld(64))


def test_a_loss_without_a_gradient_is_refused_in_one_sentence():
    def called(w, batch):
        shape = jax.ShapeDtypeStruct(batch["y"].shape, jnp.float32)
        return jax.pure_callback(lambda *given: np.asarray(squares(*given)), shape, w, batch)

    with pytest.raises(TypeError, match="loss_fn has no gradient that JAX can take") as caught:
        slt_jax.inspect(replace(least_squares(), loss_fn=called), sgld(64))
    assert ". " not in str(caught.value)


@pytest.mark.parametrize(
    "depends",
    [
        lambda l: jnp.where(l > jnp.median(l), l, 0.0),
        lambda l: jnp.where(jnp.cumsum(l > 1.0) <= 4, l, 0.5 * l),
        jnp.sort,
        lambda l: l / jnp.max(l),
    ],
    ids=["above the median", "a capacity", "sorted", "relative to the largest"],
)
def test_a_loss_that_depends_on_some_neighbours_is_refused(depends):
    with pytest.raises(ValueError, match="neighbours in the batch"):
        slt_jax.inspect(replace(least_squares(), loss_fn=lambda w, b: depends(squares(w, b))), sgld(8))


@pytest.mark.parametrize("restricted", [False, True])
def test_one_bad_example_is_found_however_few_are_drawn(restricted):
    posterior = least_squares(30_000)
    posterior = replace(posterior, data={**posterior.data, "y": posterior.data["y"].at[29_993].set(jnp.inf)})
    parts = [by_slice({"*": 0}, jnp.arange(4))] if restricted else []
    draw = slt_jax.sample_restrictions if restricted else slt_jax.sample
    with pytest.raises(ValueError, match="example 29993 of the data"):
        draw(KEY, posterior, *parts, sgld(8), step_size=1e-5, num_chains=2, num_draws=2)


def test_every_point_of_a_sweep_is_looked_at():
    swept = slt_jax.sweep(
        KEY, least_squares(), sgld(4), step_sizes=[1e-6, 1e-3], nbetas=[100.0, 263.0], num_chains=2, num_draws=20
    )
    heated = ["heated: " in estimate.status for estimate in swept.estimates[:, :, 0].ravel()]
    assert heated == [False, False, True, True]
    off = replace(least_squares(), center=least_squares().center + 0.05)
    swept = slt_jax.sweep(KEY, off, sgld(64), step_sizes=[1e-6], localizations=[1.0, 1e5], num_draws=20)
    named = ["not a minimum: " in estimate.status for estimate in swept.estimates.ravel()]
    assert named == [True, False]


def test_every_restriction_is_looked_at():
    posterior = least_squares()
    off = replace(posterior, center=posterior.center.at[2].add(0.2))
    parts = slt_jax.sample_restrictions(
        KEY, off, by_slice({"*": 0}, jnp.arange(4)), sgld(64), step_size=1e-6, num_chains=1, num_draws=20
    )
    assert ["not a minimum: " in slt_jax.llc(part).status for part in parts] == [False, False, True, False]


@pytest.mark.parametrize("chunk_size", [None, 7, 100])
def test_derivatives_are_those_of_the_mean_loss_however_they_are_chunked(chunk_size):
    posterior = least_squares(90)
    center = Center.of(generator(KEY, 0), posterior, None, chunk_size)
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    found = center.derivatives(vectors)
    x, y = (np.asarray(posterior.data[name], np.float64) for name in "xy")
    residuals = x @ np.asarray(posterior.center) - y
    assert sorted(center.numbers) == list(range(90))
    np.testing.assert_allclose(found.gradient, x.T @ residuals / 90, atol=1e-5)
    np.testing.assert_allclose(found.products, vectors @ x.T @ x / 90, rtol=1e-4, atol=1e-5)
    slopes = ((x * residuals[:, None]) @ vectors.T).T[:, center.numbers]
    np.testing.assert_allclose(found.slopes, slopes, rtol=1e-3, atol=1e-4)
    few = x[center.numbers[:20]]
    np.testing.assert_allclose(
        center.derivatives(vectors, 20).products, vectors @ few.T @ few / 20, rtol=1e-4, atol=1e-5
    )


class Matrix:
    """As `Derivatives` of a quadratic."""

    def __init__(self, matrix, vectors):
        self.products, self.slopes = vectors @ matrix, vectors[:, :2]


@pytest.mark.parametrize("rank", [3, 40])
def test_ritz_pairs_also_of_an_exhausted_space(rank):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(60, rank)))[0]
    values = np.geomspace(100.0, 1e-3, rank)
    matrix = (basis * values) @ basis.T
    ritz = ritz_space(lambda vectors: Matrix(matrix, vectors), rng.normal(size=(60, 4)), 4)
    np.testing.assert_allclose(ritz.vectors.T @ ritz.vectors, np.eye(16), atol=1e-10)
    np.testing.assert_allclose(ritz.values[::-1][:2], values[:2], rtol=1e-3)
    np.testing.assert_allclose(ritz.slopes, ritz.vectors[:2], atol=1e-10)
    top = top_eigenvalue(lambda vector: matrix @ vector, rng.normal(size=60), 40)
    assert top == pytest.approx(100.0, rel=0.01)
