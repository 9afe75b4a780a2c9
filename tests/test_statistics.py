"""Streamed moments against numpy, and what a chain promises about carrying them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.estimators.jackknife import moments_of_traces
from slt_jax.posterior import LocalPosterior, by_slice
from slt_jax.sampling import driver, state, statistics
from slt_jax.sampling.driver import sample, sample_restrictions
from slt_jax.sampling.samples import select_chains
from slt_jax.sampling.sgld import sgld
from slt_jax.sampling.statistics import block_of_draw, cross_moments, example_moments

FIELDS = ("count", "mean_x", "square_x", "mean_y", "square_y", "mean_total", "square_total", "product")


def squared_error(params, batch):
    return 0.5 * (batch["x"] @ params - batch["y"]) ** 2


def per_token(params, batch):
    """Three losses an example, shape (batch, 3)."""
    return 0.5 * (batch["x"] * params[None] - batch["y"][:, None]) ** 2


def posterior(loss_fn=squared_error, n=10):
    x = jax.random.normal(jax.random.key(3), (n, 3))
    return LocalPosterior(loss_fn, {"x": x, "y": x @ jnp.arange(3.0) + 0.3}, jnp.arange(3.0), 20.0, 1.0)


def observables(params):
    return jnp.stack([params[0], jnp.sum(params**2)])


def draw(statistics=None, **changes):
    options = {"step_size": 1e-2, "num_chains": 2, "num_draws": 50, "num_burnin": 0, "thinning": 2, **changes}
    return sample(jax.random.key(0), posterior(), sgld(4), statistics=statistics, **options)


def losses(loss_fn=squared_error, chunk_size=4):
    given = posterior()
    return example_moments(loss_fn, given.data, given.center, chunk_size).y


@pytest.mark.parametrize("num_draws", [1, 3, 16, 50, 97])
@pytest.mark.parametrize("num_blocks", [1, 16])
def test_blocks_partition_the_draws_in_order(num_draws, num_blocks):
    blocks = np.asarray(block_of_draw(jnp.arange(num_draws), num_draws, num_blocks))
    assert (np.diff(blocks) >= 0).all()
    lengths = np.bincount(blocks, minlength=num_blocks)
    assert len(lengths) == num_blocks
    np.testing.assert_array_equal(lengths, [len(part) for part in np.array_split(np.arange(num_draws), num_blocks)])


@pytest.mark.parametrize("layout", ["vmap", "map"])
@pytest.mark.parametrize("loss_fn", [squared_error, per_token])
def test_streamed_moments_are_those_of_the_trace(loss_fn, layout):
    y = losses(loss_fn)
    samples = draw(
        {"moments": cross_moments(observables, y, num_blocks=16)},
        observables={"x": observables, "y": y},
        layout=layout,
        num_burnin=7,
    )
    streamed = samples.statistics["moments"]
    references = streamed.reference_x[0], streamed.reference_y[0]
    np.testing.assert_allclose(references[1], y(posterior().center), rtol=1e-5)
    traces = [samples.observables[name] - reference for name, reference in zip("xy", references, strict=True)]
    expected = moments_of_traces(*traces, 16)
    assert streamed.product.shape == (2, 16, 2, *references[1].shape)
    assert streamed.drawn.tolist() == [50, 50]
    for name in FIELDS:
        np.testing.assert_allclose(getattr(streamed, name), getattr(expected, name), rtol=2e-3, atol=1e-5, err_msg=name)


def test_no_x_is_the_mean_of_y():
    y = losses()
    samples = draw({"given": cross_moments(lambda w: jnp.mean(y(w)), y), "none": cross_moments(None, y)})
    for name in FIELDS:
        given, none = (getattr(samples.statistics[which], name) for which in ("given", "none"))
        np.testing.assert_allclose(none, given, rtol=1e-3, atol=1e-6, err_msg=name)


def test_exponentials_are_the_means_of_the_likelihood_ratios():
    given = posterior()
    moments = example_moments(squared_error, given.data, given.center, num_blocks=16)
    samples = draw({"moments": moments}, observables={"y": moments.y})
    streamed = samples.statistics["moments"]
    ratios = np.expm1(-(samples.observables["y"].astype(np.float64) - streamed.reference_y[:, None]))
    parts = np.array_split(ratios, 16, axis=1)
    np.testing.assert_allclose(streamed.exponential, np.stack([part.mean(axis=1) for part in parts], 1), atol=1e-5)
    assert streamed.product is None


def test_a_small_spread_on_a_large_loss_survives_single_precision():
    """Raw float32 sums of products of losses 5 ± 0.01 lose a fifth of their covariance."""
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 2)), jnp.float32)
    y = 5 + 0.01 * jnp.stack([noise[:, 0], noise[:, 0] + noise[:, 1]], axis=1)
    moments = cross_moments(lambda value: value[0], lambda value: value, num_blocks=1)

    def step(state, value):
        return moments.update(state, value, 4000), None

    state, _ = jax.lax.scan(step, moments.init(jnp.full(2, 5.003)), y)
    exact = np.cov(np.asarray(y, np.float64).T, bias=True)[0]
    np.testing.assert_allclose(state.product[0] / 4000, exact, rtol=1e-4)
    raw = jnp.sum(y[:, :1] * y, axis=0) / 4000 - jnp.mean(y[:, 0]) * jnp.mean(y, axis=0)
    assert np.abs(np.asarray(raw) / exact - 1).max() > 0.02


def test_an_observable_without_a_value_at_the_center_is_not_lost():
    moments = cross_moments(lambda w: jnp.log(jnp.abs(w[0])), losses())  # -inf at w* = (0, 1, 2)
    assert np.isfinite(draw({"moments": moments}).statistics["moments"].product).all()


def test_chunks_change_nothing():
    chunked, whole = (losses(chunk_size=size)(jnp.ones(3)) for size in (3, 100))
    np.testing.assert_allclose(chunked, whole, rtol=1e-6)


def test_moments_do_not_disturb_the_chain_and_follow_select_chains():
    samples = draw({"moments": cross_moments(None, losses())})
    np.testing.assert_array_equal(samples.loss, draw().loss)
    assert samples.chains.statistics == {}
    second = select_chains(samples, slice(1, 2)).statistics["moments"]
    np.testing.assert_array_equal(second.product[0], samples.statistics["moments"].product[1])


def test_restricted_chains_give_whole_parameters_to_their_statistics():
    given = posterior()
    tree = LocalPosterior(lambda p, b: squared_error(p["w"], b), given.data, {"w": given.center}, 20.0, 1.0)
    moments = {"m": cross_moments(lambda p: p["w"], lambda p: p["w"])}
    parts = sample_restrictions(
        jax.random.key(0), tree, by_slice({"w": 0}, jnp.arange(3)), sgld(4), step_size=1e-2, num_draws=20,
        statistics=moments,
    )  # fmt: skip
    for index, part in enumerate(parts):
        moved = part.statistics["m"].square_y.sum(axis=(0, 1)) > 0
        assert moved.tolist() == [index == other for other in range(3)]


def test_state_on_disk_continues_the_moments_to_the_same_bits(tmp_path, monkeypatch):
    moments = {"moments": cross_moments(observables, losses()), "examples": statistics.cross_moments(None, losses())}
    draw = partial(globals()["draw"], num_burnin=7)
    whole = draw(moments)
    real_save, saves = state.save_state, []

    def save_then_die(*args, **kwargs):
        real_save(*args, **kwargs)
        saves.append(args)
        if len(saves) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(state, "save_state", save_then_die)
    monkeypatch.setattr(state, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(state, "SAVE_SHARE", 0.0)
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.0)
    resume = partial(draw, moments, state_path=tmp_path / "state.npz")
    resumed = None
    while resumed is None:
        try:
            resumed = resume()
        except KeyboardInterrupt:
            assert len(saves) < 200
    assert len(saves) > 20
    jax.tree.map(np.testing.assert_array_equal, resumed.statistics, whole.statistics)
    with pytest.raises(ValueError, match="other settings"):
        draw({"moments": cross_moments(observables, losses())}, state_path=tmp_path / "state.npz")


def test_new_data_do_not_recompile():
    given = posterior()
    draw({"moments": example_moments(squared_error, given.data, given.center)})
    before = driver._advance._cache_size()
    for shift in range(3):
        data = given.data | {"y": given.data["y"] + shift}
        draw({"moments": example_moments(squared_error, data, given.center)})
    assert driver._advance._cache_size() == before


def test_an_observable_that_would_not_fit_names_statistics():
    with pytest.raises(ValueError, match=r"observable 'all'.* 4\.8 GB; give statistics="):
        draw(observables={"all": lambda w: jnp.zeros(6_000_000) * w[0]}, num_draws=100)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cross_moments(None, losses(), num_blocks=0), "num_blocks = 0"),
        (lambda: losses(chunk_size=0), "chunk_size = 0"),
        (lambda: losses(lambda params, batch: jnp.mean(squared_error(params, batch))), "first axis must be"),
    ],
)
def test_bad_statistics_are_refused_in_one_sentence(build, message):
    with pytest.raises(ValueError, match=message):
        build()
