"""Error bars of covariances against known distributions, and what estimates say when they cannot be trusted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax.estimators import block_estimates
from slt_jax.estimators.covariances import trace_covariance
from slt_jax.estimators.jackknife import blocks_of, jackknife, moments_of_traces, pool, t_quantile
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.statistics import cross_moments, example_moments


def traces(chains=4, draws=4000, correlation=0.6, autocorrelation=0.0, seed=0):
    """Stationary AR(1) pairs (x, y) of unit variance and the given correlation, `(chain, draw)` each."""
    noise = np.random.default_rng(seed).normal(size=(2, chains, draws))
    noise[1] = correlation * noise[0] + np.sqrt(1 - correlation**2) * noise[1]
    noise[..., 1:] *= np.sqrt(1 - autocorrelation**2)
    for draw in range(1, draws):
        noise[..., draw] += autocorrelation * noise[..., draw - 1]
    return noise


@pytest.mark.parametrize("draws", [33, 160])
@pytest.mark.parametrize("chains", [1, 3, 40])
def test_pooled_blocks_are_the_moments_of_all_draws(chains, draws):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(chains, draws, 2)), rng.normal(size=(chains, draws, 3, 2))
    pooled = pool(blocks_of(moments_of_traces(x, y)))
    flat_x, flat_y = x.reshape(-1, 2), y.reshape(-1, 6)
    together = np.cov(flat_x.T, flat_y.T, bias=True)
    np.testing.assert_allclose(pooled.product[:, :-1] / pooled.count, together[:2, 2:], atol=1e-12)
    np.testing.assert_allclose(pooled.square_y[:-1] / pooled.count, flat_y.var(axis=0), rtol=1e-10)
    np.testing.assert_allclose(pooled.mean_x, flat_x.mean(axis=0), atol=1e-12)
    # The entry that is appended is the mean over y.
    total = flat_y.mean(axis=1)
    np.testing.assert_allclose(
        pooled.product[:, -1] / pooled.count, np.cov(flat_x.T, total, bias=True)[:2, 2], atol=1e-12
    )
    np.testing.assert_allclose([pooled.square_y[-1], pooled.square_total], total.var() * pooled.count, rtol=1e-10)


def test_jackknife_of_independent_draws_is_the_standard_error_of_a_mean():
    x = np.random.default_rng(0).normal(size=(1, 16, 1))
    found = jackknife(lambda pooled: pooled.mean_x, blocks_of(moments_of_traces(x, x)))
    np.testing.assert_allclose(found.value, x.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.std_error, x.std(ddof=1) / 4, rtol=1e-12)
    assert found.degrees_of_freedom == 15


def test_jackknife_takes_the_bias_of_a_variance_off():
    x = np.random.default_rng(0).normal(size=(1, 16, 1))
    found = jackknife(lambda pooled: pooled.square_x / pooled.count, blocks_of(moments_of_traces(x, x)))
    np.testing.assert_allclose(found.value, x.var(ddof=1), rtol=1e-12)


def test_blocks_of_unequal_length_count_by_their_length():
    x = np.random.default_rng(0).normal(size=(1, 24, 1))  # eight blocks of two draws, eight of one
    blocks = blocks_of(moments_of_traces(x, x))
    assert sorted(set(blocks.count)) == [1, 2]
    found = jackknife(lambda pooled: pooled.mean_x, blocks)
    np.testing.assert_allclose(found.value, x.mean(), rtol=1e-12)
    assert found.std_error == pytest.approx(x.std(ddof=1) / 24**0.5, rel=0.3)


@pytest.mark.parametrize("autocorrelation", [0.0, 0.9])
def test_intervals_cover_what_they_say(autocorrelation):
    """About a hundred effective draws of the product series; the whole study is scripts/covariance_coverage.py."""
    draws = 50 if autocorrelation == 0 else 475  # (1 + ρ²)/(1 - ρ²) = 9.5 draws make one
    hits = []
    for seed in range(200):
        x, y = traces(4, draws, 0.6, autocorrelation, seed)
        low, high = trace_covariance(x, y).interval(0.95)
        hits.append(low <= 0.6 <= high)
    assert 0.90 <= np.mean(hits) <= 0.99


def test_effective_draws_are_those_of_the_product_series():
    """(1 + ρ²)/(1 - ρ²) = 9.5 draws make one at ρ = 0.9. Harmonic means, for one error bar of 16 blocks is noisy."""
    for autocorrelation, per_draw in ((0.0, 1.0), (0.9, 9.53)):
        inverse = [1 / trace_covariance(*traces(4, 4000, 0.6, autocorrelation, seed)).ess for seed in range(40)]
        assert 1 / np.mean(inverse) == pytest.approx(16_000 / per_draw, rel=0.2)


def test_few_draws_and_unmixed_chains_are_said():
    few = trace_covariance(*traces(4, 10))
    assert few.status.startswith("few draws: about ")
    x, y = traces(4, 1000)
    offset = np.arange(4.0)[:, None]
    apart = trace_covariance(x + offset, y + offset)
    assert "between chains: " in apart.status
    assert apart.between_share > 0.5
    np.testing.assert_allclose(apart.value - apart.per_chain.mean(axis=0), apart.between)
    assert trace_covariance(x, y).status == "ok"


def test_a_part_of_the_examples_speaks_of_itself():
    x, y = traces()
    apart = x + 3 * np.arange(4)[:, None]
    found = trace_covariance(apart[..., None], np.stack([y, apart], axis=-1))
    whole = [found.of_examples(slice(0, 1)), found.of_examples(slice(1, None))]
    alone = [trace_covariance(apart[..., None], values[..., None]) for values in (y, apart)]
    for part, other in zip(whole, alone, strict=True):
        np.testing.assert_allclose(part.value, other.value, rtol=1e-12)
        np.testing.assert_allclose(part.std_error, other.std_error, rtol=1e-12)
        assert part.status == other.status
    assert "between chains: " in whole[1].status


def test_a_single_block_has_no_error_bar():
    found = trace_covariance(np.ones((1, 1)), np.ones((1, 1)))
    assert np.isnan(found.std_error)
    assert "no error bar" in found.status
    assert np.isnan(t_quantile(0.95, 0))


def squared_error(params, batch):
    return 0.5 * (batch["x"] @ params - batch["y"]) ** 2


def drawn(**changes):
    x = jax.random.normal(jax.random.key(3), (10, 3))
    data, center = {"x": x, "y": x @ jnp.arange(3.0) + 0.3 * jnp.cos(jnp.arange(10.0))}, jnp.arange(3.0)
    posterior = LocalPosterior(squared_error, data, center, 20.0, 1.0)
    examples = example_moments(squared_error, data, center, num_blocks=16)
    statistics = {
        "examples": examples,
        "influence": cross_moments(lambda w: w, examples.y, num_blocks=16),
        "total": cross_moments(None, examples.y, num_blocks=16),
    }
    options = {"step_size": 2e-2, "num_chains": 4, "num_draws": 500, "num_burnin": 50, "thinning": 5, **changes}
    return slt_jax.sample(
        jax.random.key(0), posterior, slt_jax.sgld(None), statistics=statistics,
        observables={"losses": examples.y, "w": lambda w: w}, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def samples():
    return drawn()


def test_streamed_and_recorded_covariances_agree(samples):
    streamed = slt_jax.covariance(samples, "influence")
    recorded = trace_covariance(samples.observables["w"], samples.observables["losses"])
    assert streamed.value.shape == (3, 10)
    for name in ("value", "std_error", "per_chain", "between"):
        np.testing.assert_allclose(getattr(streamed, name), getattr(recorded, name), rtol=1e-2, atol=2e-5, err_msg=name)
    assert streamed.degrees_of_freedom == recorded.degrees_of_freedom == 15


def test_kinds_of_influence_are_one_covariance(samples):
    found = slt_jax.covariance(samples, "influence")
    np.testing.assert_allclose(slt_jax.influence(samples, "influence").value, -found.value)
    response = slt_jax.influence(samples, "influence", "response", n=10)
    np.testing.assert_allclose(response.value, -2.0 * found.value)
    np.testing.assert_allclose(response.std_error, 2.0 * found.std_error)
    correlation = slt_jax.influence(samples, "influence", "correlation")
    w, losses = (samples.observables[name].reshape(2000, -1) for name in ("w", "losses"))
    np.testing.assert_allclose(correlation.value, -np.corrcoef(w.T, losses.T)[:3, 3:], atol=0.01)
    low, high = correlation.interval()
    assert ((low > -1) & (low < correlation.value) & (correlation.value < high) & (high < 1)).all()
    with pytest.raises(ValueError, match="n = None; a response"):
        slt_jax.influence(samples, "influence", "response")
    with pytest.raises(ValueError, match="kind = 'bif'"):
        slt_jax.influence(samples, "influence", "bif")


def test_slices_of_examples_change_nothing(samples, monkeypatch):
    whole = slt_jax.susceptibilities(samples, "total", samples)
    fluctuation = slt_jax.fluctuation(samples, "examples")
    monkeypatch.setattr(block_estimates, "COLUMNS", 3)
    monkeypatch.setattr("slt_jax.estimators.fluctuation.COLUMNS", 3)
    parts = slt_jax.susceptibilities(samples, "total", samples)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-9)
        np.testing.assert_allclose(a.std_error, b.std_error, rtol=1e-9)
    again = slt_jax.fluctuation(samples, "examples")
    for name in ("functional_variance", "waic", "waic_std_error", "bayes_training_loss_std_error"):
        assert getattr(again, name) == pytest.approx(getattr(fluctuation, name), rel=1e-9)


def test_susceptibilities_of_the_whole_are_of_mean_zero_and_their_forms_agree(samples):
    found = slt_jax.susceptibilities(samples, "total", samples)
    assert found.restricted.value.mean() == pytest.approx(0, abs=1e-8)
    # With one sample for both means the forms differ by the jackknife's correction alone, which is of order 1/draws.
    assert (np.abs(found.mixed.value - found.restricted.value) < 0.1 * found.restricted.std_error).all()
    assert slt_jax.susceptibilities(samples, "total").mixed is None


def test_susceptibilities_of_another_center_are_refused(samples):
    moved = samples.statistics["total"]._replace(reference_y=samples.statistics["total"].reference_y + 1)
    other = dataclasses.replace(samples, statistics={"total": moved})
    with pytest.raises(ValueError, match=r"losses at w\* of statistic 'total' differ"):
        slt_jax.susceptibilities(samples, "total", other)


def test_the_loss_kernel_is_the_covariance_of_the_losses(samples):
    flat = samples.observables["losses"].reshape(-1, 10)
    kernel = slt_jax.loss_kernel(samples, "losses", correlation=False)
    exact = np.cov(flat.T.astype(np.float64), bias=True)
    np.testing.assert_allclose(kernel.rows(np.array([2, 5])), exact[[2, 5]], rtol=1e-6)
    np.testing.assert_allclose(kernel.covariance_rows(np.array([2])).value, exact[[2]], rtol=0.02, atol=1e-6)
    values, vectors = kernel.components(3)
    np.testing.assert_allclose(exact @ vectors, vectors * values, atol=1e-8)
    correlations = slt_jax.loss_kernel(samples, "losses")
    np.testing.assert_allclose(correlations.rows(np.arange(10)), np.corrcoef(flat.T.astype(np.float64)), atol=1e-9)
    with pytest.raises(ValueError, match="no observable 'loss'"):
        slt_jax.loss_kernel(samples, "loss")


def test_a_diverged_chain_is_never_averaged(samples):
    lost = dataclasses.replace(samples, finite=np.array([True, False, True, True]))
    for found in (
        slt_jax.covariance(lost, "influence"), slt_jax.influence(lost, "influence", "correlation"),
        *slt_jax.susceptibilities(lost, "total", lost),
    ):  # fmt: skip
        assert np.isnan(found.value).all()
        assert np.isnan(found.std_error).all()
        assert np.isnan(found.per_chain[1]).all()
        assert np.isfinite(found.per_chain[[0, 2, 3]]).all() or found.value.shape == (10,)
        assert found.status == "diverged: chains [1]; the estimate is NaN"
    assert np.isnan(slt_jax.fluctuation(lost, "examples").waic)
    assert np.isnan(slt_jax.heat_capacity(lost, "examples").value)
    tolerated = slt_jax.covariance(lost, "influence", tolerate_diverged=True)
    assert np.isfinite(tolerated.value).all()
    assert tolerated.status.startswith("diverged: chains [1]; left out as asked")
    with pytest.raises(ValueError, match="chains \\[1\\] diverged"):
        slt_jax.loss_kernel(lost, "losses")


def test_a_chain_that_explodes_is_flagged():
    found = slt_jax.covariance(drawn(step_size=50.0, num_chains=2, num_burnin=0), "influence")
    assert found.diverged.all()
    assert np.isnan(found.value).all()


def test_an_observable_that_never_moves_has_no_covariance(samples):
    still = trace_covariance(np.ones((4, 500)), samples.observables["losses"])
    np.testing.assert_allclose(still.value, 0, atol=1e-20)
    assert still.status.startswith("few draws")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: slt_jax.covariance(s, "other"), "no moments 'other' .there are: examples, influence, total"),
        (lambda s: slt_jax.covariance(s, "examples"), "keeps no products"),
        (lambda s: slt_jax.fluctuation(s, "influence"), "keeps no means of exp"),
        (
            lambda s: slt_jax.covariance(dataclasses.replace(s, nbeta=np.arange(4.0)), "total"),
            "several values of nbeta",
        ),
        (lambda s: slt_jax.covariance(s, "influence").interval(95.0), "level = 95"),
    ],
)
def test_what_cannot_be_answered_is_refused(samples, call, message):
    with pytest.raises(ValueError, match=message):
        call(samples)
