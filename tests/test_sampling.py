"""Samplers against closed forms: exact finite-step SGLD on quadratics, Gaussian variances, and the driver's promises."""

import dataclasses
import json
from fractions import Fraction
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax.posterior import LocalPosterior, by_path, by_slice
from slt_jax.sampling.chains import init_chain, run
from slt_jax.sampling.diagnostics import excursions
from slt_jax.sampling.driver import sample, sample_restrictions
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.noise import NOISE_BLOCK, standard_normal_vector
from slt_jax.sampling.preconditioners import adam, rmsprop
from slt_jax.sampling.sgld import sgld
from slt_jax.sampling.sgnht import sgnht
from slt_jax.sampling.underdamped import underdamped
from slt_jax.theory import quadratic_sgld_llc

REFERENCE = json.loads((Path(__file__).parent / "data" / "learning_coefficients.json").read_text())
QUADRATIC = REFERENCE["quadratic_sgld"]
CURVATURES = jnp.array(QUADRATIC["hessian_diagonal"], jnp.float32)


def diagonal_quadratic(params, batch):
    return jnp.broadcast_to(0.5 * jnp.sum(CURVATURES * params**2), batch.shape)


def quadratic_posterior(nbeta=1000.0, localization=1.0):
    return LocalPosterior(diagonal_quadratic, jnp.zeros(2), jnp.zeros(5), nbeta, localization)


def gaussian_metric():
    """(A + d)⁻¹ for the quadratic above, its stiffest three directions explicit."""
    damping = 100.0  # at least γ, or flat directions take longer steps than stiff ones
    return Metric(jnp.eye(5)[:, :3], 1 / (1000 * CURVATURES[:3] + damping), jnp.asarray(1 / damping))


@pytest.mark.parametrize("case", [c for c in QUADRATIC["cases"] if c["step_size"] > 0], ids=str)
def test_sgld_on_a_quadratic_is_exact_at_finite_step(case):
    posterior = quadratic_posterior(QUADRATIC["nbeta"], case["localization"])
    # The flat direction does not enter the loss; the next one relaxes in 2/(ε(nβ·0.01 + γ)) < 200 steps.
    samples = sample(
        jax.random.key(7), posterior, sgld(None), step_size=case["step_size"], num_chains=16, num_draws=20_000,
        num_burnin=2000,
    )  # fmt: skip
    estimate = slt_jax.llc(samples)
    exact = quadratic_sgld_llc(
        QUADRATIC["hessian_diagonal"], QUADRATIC["nbeta"], case["localization"], case["step_size"]
    )
    assert exact == pytest.approx(case["llc"], abs=1e-4)
    assert abs(estimate.mean - exact) < 3 * estimate.std_error
    assert estimate.std_error < 0.02 * exact
    assert estimate.rhat < 1.01


# name -> kernel, step size, thinning of about a tenth of the slowest relaxation time, metric. The metric's kernels can
# afford long steps: G times the curvature is 1 in every direction. Adam's averaged gradient lags, a relative bias of
# (εa/2)·b₁/(1 - b₁) on top, so its step is shorter and its b₁ below the default.
KERNELS = {
    "sgld": (sgld(None), 1e-4, 20, None),
    "sgld-leimkuhler-matthews": (sgld(None, integrator="leimkuhler_matthews"), 2e-3, 20, None),
    "sgld-metric": (sgld(None), 0.05, 20, gaussian_metric),
    "sgld-metric-leimkuhler-matthews": (sgld(None, integrator="leimkuhler_matthews"), 1.0, 20, gaussian_metric),
    "rmsprop": (sgld(None, rmsprop(0.999, 1.0)), 1e-4, 20, None),
    "adam": (sgld(None, adam(0.5, 0.999, 1.0)), 2e-5, 100, None),
    "sgnht": (sgnht(None), 0.01, 20, None),
    "sgnht-metric": (sgnht(None), 0.05, 20, gaussian_metric),
    "underdamped": (underdamped(None), 0.05, 20, None),
    "underdamped-metric": (underdamped(None, persistence=0.95), 0.5, 20, gaussian_metric),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_sample_a_gaussian_in_stiff_and_flat_directions(name):
    kernel, step_size, thinning, metric = KERNELS[name]
    posterior = quadratic_posterior(1000.0, 100.0)
    samples = sample(
        jax.random.key(1), posterior, kernel, step_size=step_size, num_chains=256, num_draws=300,
        num_burnin=60 * thinning, thinning=thinning, metric=metric and metric(), observables={"w": lambda params: params},
        layout="vmap",
    )  # fmt: skip
    variances = np.mean(samples.observables["w"].astype(np.float64) ** 2, axis=(0, 1))
    exact = 1 / (1000 * np.asarray(CURVATURES) + 100)
    np.testing.assert_allclose(variances, exact, rtol=0.05)


@pytest.mark.parametrize("step_size", [1e-3, 3e-3])
def test_leimkuhler_matthews_has_no_step_bias_on_a_quadratic(step_size):
    kernel = sgld(None, integrator="leimkuhler_matthews")
    samples = sample(
        jax.random.key(7), quadratic_posterior(), kernel, step_size=step_size, num_chains=16, num_draws=20_000,
        num_burnin=2000, layout="vmap",
    )  # fmt: skip
    estimate = slt_jax.llc(samples)
    exact = quadratic_sgld_llc(QUADRATIC["hessian_diagonal"], 1000.0, 1.0, 0.0)
    assert abs(estimate.mean - exact) < 3 * estimate.std_error
    assert estimate.std_error < 0.02 * exact


def linear_loss(params, batch):
    return 0.5 * (batch["x"] @ params - batch["y"]) ** 2


def noisy_regression(n=200, noise=0.3):
    x = jax.random.normal(jax.random.key(3), (n, 4))
    y = x @ jnp.arange(4.0) + noise * jax.random.normal(jax.random.key(4), (n,))
    center = jnp.linalg.lstsq(x, y)[0]
    return LocalPosterior(linear_loss, {"x": x, "y": y}, center, 50.0, 1.0)


def kernels(batch_size):
    return {
        "sgld": sgld(batch_size),
        "leimkuhler-matthews": sgld(batch_size, integrator="leimkuhler_matthews"),
        "rmsprop": sgld(batch_size, rmsprop()),
        "adam": sgld(batch_size, adam()),
        "sgnht": sgnht(batch_size),
        "underdamped": underdamped(batch_size),
    }


CONTRACT = kernels(8)


@pytest.mark.parametrize("name", CONTRACT)
class TestKernelContract:
    """What every kernel promises, whatever it is."""

    def run(self, name, num_draws=6, **changes):
        posterior = noisy_regression()
        chain = init_chain(jax.random.key(0), posterior, CONTRACT[name])
        options = {"step_size": 1e-3, "num_draws": num_draws, "observables": {"w": lambda params: params}, **changes}
        return posterior, run(chain, posterior, CONTRACT[name], **options)

    def test_starts_at_the_center_and_never_reports_it(self, name):
        posterior, (_, trace) = self.run(name)
        chain = init_chain(jax.random.key(0), posterior, CONTRACT[name])
        np.testing.assert_array_equal(chain.kernel_state.params, posterior.center)
        assert not np.array_equal(trace.observables["w"][0], posterior.center)

    def test_reported_loss_belongs_to_the_reported_state(self, name):
        posterior = noisy_regression()
        kernel = kernels(None)[name]
        chain = init_chain(jax.random.key(0), posterior, kernel)
        _, trace = run(chain, posterior, kernel, step_size=1e-3, num_draws=5, observables={"w": lambda params: params})
        for loss, w in zip(trace.loss, trace.observables["w"], strict=True):
            np.testing.assert_allclose(loss, jnp.mean(linear_loss(w, posterior.data)), rtol=1e-5)

    def test_thinning_keeps_every_kth_state(self, name):
        _, (_, every) = self.run(name, num_draws=6)
        _, (_, thinned) = self.run(name, num_draws=2, thinning=3)
        np.testing.assert_array_equal(thinned.observables["w"], every.observables["w"][2::3])

    def test_continuing_gives_the_same_bits(self, name):
        posterior, (whole, _) = self.run(name, num_draws=6)
        _, (half, _) = self.run(name, num_draws=2)
        rest, _ = run(half, posterior, CONTRACT[name], step_size=1e-3, num_draws=4)
        np.testing.assert_array_equal(rest.kernel_state.params, whole.kernel_state.params)

    def test_chains_and_leaves_have_their_own_noise(self, name):
        def flat(params, batch):
            return 0.0 * batch * (jnp.sum(params["a"]) + jnp.sum(params["b"]))

        posterior = LocalPosterior(flat, jnp.zeros(9), {"a": jnp.zeros(3), "b": jnp.zeros(3)}, 1.0, 1.0)
        samples = sample(jax.random.key(0), posterior, CONTRACT[name], step_size=0.01, num_chains=2, num_draws=2)
        ends = samples.chains.kernel_state.params
        assert not np.array_equal(ends["a"][0], ends["a"][1])
        assert not np.array_equal(ends["a"][0], ends["b"][0])

    def test_exploding_step_is_flagged(self, name):
        posterior = noisy_regression()
        step_size = 1e6 if name in ("rmsprop", "adam") else 1e3
        samples = sample(jax.random.key(0), posterior, CONTRACT[name], step_size=step_size, num_chains=2, num_draws=200)
        estimate = slt_jax.llc(samples)
        assert estimate.diverged.all()
        assert np.isnan(estimate.mean)
        assert "smaller step_size" in estimate.status

    def test_equal_settings_are_one_kernel(self, name):
        fresh = kernels(8)[name]
        assert fresh == CONTRACT[name]
        assert hash(fresh) == hash(CONTRACT[name])


@pytest.mark.parametrize("size", [1, 7, 30, 2 * NOISE_BLOCK + 1, 100_001])
def test_noise_drawn_in_blocks_is_independent_standard_normal(size):
    """Every number is new (blocks do not share a key), on any backend, with the moments of N(0, 1)."""
    noise = np.asarray(jax.jit(standard_normal_vector)(jax.random.key(3), jnp.zeros(size)))
    assert noise.shape == (size,)
    assert len(np.unique(noise)) > 0.99 * size  # float32 has few values near 0: some are drawn twice
    if size > 1000:
        error = 1 / size**0.5
        assert abs(noise.mean()) < 4 * error
        assert abs(noise.var() - 1) < 4 * 2**0.5 * error
        assert abs((noise[1:] * noise[:-1]).mean()) < 4 * error


def test_noise_is_the_same_on_an_accelerator(monkeypatch):
    like = jnp.zeros(2 * NOISE_BLOCK + 1)
    on_cpu = standard_normal_vector(jax.random.key(3), like)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_array_equal(standard_normal_vector(jax.random.key(3), like), on_cpu)


@pytest.mark.parametrize("layout", ["vmap", "map"])
def test_layouts_agree(layout):
    posterior = noisy_regression()
    draw = partial(sample, jax.random.key(0), posterior, sgld(8), step_size=1e-3, num_chains=3, num_draws=50)
    np.testing.assert_allclose(draw(layout=layout).loss, draw(layout="vmap").loss, rtol=1e-4)


def test_baselines_agree_and_paired_is_the_sharpest():
    posterior = noisy_regression(noise=3.0)
    draw = partial(sample, jax.random.key(0), posterior, sgld(8), step_size=3e-4, num_chains=4, num_draws=4000)
    full_loss = float(jnp.mean(linear_loss(posterior.center, posterior.data)))
    samples = [draw(baseline=baseline) for baseline in ("paired", "full", full_loss)]
    paired, full, number = map(slt_jax.llc, samples)
    assert full.mean == pytest.approx(number.mean, rel=1e-4)
    assert abs(paired.mean - full.mean) < 4 * full.std_error
    # Which eight examples were drawn moves the loss by nβ·σ²/√(2·8) = 110, a hundred times the posterior's own spread.
    assert samples[0].excess.std() < samples[1].excess.std() / 4
    assert paired.std_error < full.std_error
    assert [estimate.baseline for estimate in (paired, full, number)] == ["paired", "full", "number"]


def test_paired_baseline_is_the_same_gathered_or_computed():
    posterior = noisy_regression()
    few = sample(jax.random.key(0), posterior, sgld(2), step_size=1e-3, num_chains=1, num_draws=20)  # 40 < n: computed
    many = sample(jax.random.key(0), posterior, sgld(2), step_size=1e-3, num_chains=1, num_draws=400)  # gathered
    np.testing.assert_allclose(few.center_loss, many.center_loss[:, :20], rtol=1e-5)


def test_state_on_disk_continues_to_the_same_bits(tmp_path, monkeypatch):
    posterior = noisy_regression()
    draw = partial(
        sample, jax.random.key(0), posterior, sgld(8), step_size=1e-3, num_chains=2, num_draws=120, num_burnin=30,
        thinning=2,
    )  # fmt: skip
    whole = draw()
    from slt_jax.sampling import driver, state

    saves = []
    real_save = state.save_state

    def save_then_die(*arguments):
        real_save(*arguments)
        saves.append(arguments)
        if len(saves) % 3 == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(state, "save_state", save_then_die)
    monkeypatch.setattr(driver, "CHUNK_SECONDS", 0.0)  # chunks stay short, so that there is something to interrupt
    monkeypatch.setattr(state, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(state, "SAVE_SHARE", 0.0)
    for _ in range(50):
        try:
            resumed = draw(state_path=tmp_path / "state.npz")
            break
        except KeyboardInterrupt:
            continue
    assert len(saves) > 30
    np.testing.assert_array_equal(resumed.loss, whole.loss)
    np.testing.assert_array_equal(resumed.burnin_excess, whole.burnin_excess)
    with pytest.raises(ValueError, match="other settings"):
        sample(
            jax.random.key(1), posterior, sgld(8), step_size=1e-3, num_chains=2, num_draws=120, num_burnin=30,
            thinning=2, state_path=tmp_path / "state.npz",
        )  # fmt: skip
    (tmp_path / "state.npz").write_bytes(b"not a state")
    with pytest.raises(ValueError, match="cannot be read"):
        draw(state_path=tmp_path / "state.npz")


def block_quadratic(params, batch):
    value = 0.5 * (
        jnp.sum(params["blocks"] ** 2 * jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])) + params["rest"][0] ** 2
    )
    return jnp.broadcast_to(value, batch.shape)


def test_refined_llcs_of_blocks_are_exact_in_one_program():
    center = {"blocks": jnp.zeros((3, 2)), "rest": jnp.zeros(1)}
    posterior = LocalPosterior(block_quadratic, jnp.zeros(2), center, 100.0, 10.0)
    stack = by_slice({"blocks": 0}, jnp.arange(3))
    refined = sample_restrictions(
        jax.random.key(0), posterior, stack, sgld(None), step_size=5e-4, num_chains=8, num_draws=8000, num_burnin=500
    )
    for samples, curvatures in zip(refined, [[1, 2], [3, 4], [5, 6]], strict=True):
        estimate = slt_jax.llc(samples)
        assert samples.num_parameters == 2
        assert abs(estimate.mean - quadratic_sgld_llc(curvatures, 100.0, 10.0, 5e-4)) < 3.5 * estimate.std_error


def test_refined_llc_of_the_whole_is_the_llc():
    posterior = noisy_regression()
    tree = LocalPosterior(
        lambda params, batch: linear_loss(params["w"], batch), posterior.data, {"w": posterior.center}, 50.0, 1.0
    )
    draw = partial(sample, jax.random.key(0), kernel=sgld(8), step_size=1e-3, num_chains=2, num_draws=100)
    whole = draw(posterior=slt_jax.restrict(tree, by_path("*")))
    np.testing.assert_allclose(whole.loss, draw(posterior=tree).loss, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_chains": 0}, "num_chains = 0"),
        ({"num_draws": 0}, "num_draws = 0"),
        ({"thinning": 0}, "thinning = 0"),
        ({"num_burnin": -1}, "num_burnin = -1"),
        ({"step_size": 0.0}, "step_size = 0.0"),
        ({"step_size": float("inf")}, "step_size = inf"),
        ({"baseline": "init"}, "baseline = 'init'"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(changes, message):
    options = {"step_size": 1e-3, "num_chains": 2, "num_draws": 4, **changes}
    with pytest.raises(ValueError, match=message):
        sample(jax.random.key(0), noisy_regression(), sgld(8), **options)


@pytest.mark.parametrize(
    "build", [lambda: sgld(0), lambda: sgnht(8, friction=0.0), lambda: rmsprop(1.0), lambda: adam(0.9, 0.9, 0.0)]
)
def test_bad_kernels_are_refused(build):
    with pytest.raises(ValueError, match=r"(it must|must lie|it is the share)"):
        build()


def test_two_hundred_checkpoints_compile_once():
    from slt_jax.sampling import driver

    posterior = noisy_regression()
    draw = partial(sample, kernel=sgld(4), step_size=1e-3, num_chains=2, num_draws=3)
    draw(jax.random.key(0), posterior)
    before = driver._advance._cache_size(), driver._start._cache_size()
    for index in range(200):
        center = posterior.center + 0.01 * index
        draw(jax.random.key(index), LocalPosterior(linear_loss, posterior.data, center, 50.0, 1.0))
    assert (driver._advance._cache_size(), driver._start._cache_size()) == before


def test_an_excursion_is_told_from_a_posterior():
    """Gamma variables of shape λ are what nβ(L - L(w*)) is at a normal crossing; a spike of a fiftieth of the chain is not."""
    draws = np.random.default_rng(0).gamma([[0.25], [0.5], [2.0], [30.0], [400.0]], size=(5, 2000))
    slow = np.repeat(draws[:, :40], 50, axis=1)  # forty independent values in all
    assert not excursions(draws).any()
    assert not excursions(slow).any()
    assert not excursions(np.linspace(0, 1, 2000) * draws).any()  # still on its way up
    draws[3:, 500:540] *= 200
    assert excursions(draws).tolist() == [False, False, False, True, True]


def test_an_excursion_is_named_in_the_status():
    samples = sample(
        jax.random.key(0), noisy_regression(), sgld(8), step_size=1e-3, num_chains=2, num_draws=1000, num_burnin=200,
        thinning=10,
    )  # fmt: skip
    assert slt_jax.llc(samples).status == "ok"
    spiked = samples.loss.copy()
    spiked[1, 500:560] += 10.0
    estimate = slt_jax.llc(dataclasses.replace(samples, loss=spiked))
    assert estimate.status.startswith("excursion: chains [1]")
    assert not estimate.diverged.any()
    assert np.isfinite(estimate.mean)


def test_calibration_finds_the_top_curvature_and_the_relaxation_time():
    calibration = slt_jax.calibrate(jax.random.key(0), quadratic_posterior(1000.0, 2.0), batch_size=None)
    assert calibration.top_curvature == pytest.approx(1000.0, rel=0.01)
    assert calibration.step_size == pytest.approx(0.3 / 1002.0, rel=0.01)
    assert calibration.num_burnin == pytest.approx(2 / (calibration.step_size * 2.0), rel=0.01)
    thermostat = slt_jax.calibrate(jax.random.key(0), quadratic_posterior(), batch_size=None, kernel=sgnht(None))
    assert thermostat.step_size == pytest.approx((0.1 / 1001.0) ** 0.5, rel=0.01)


def test_five_line_estimate_on_a_regular_model():
    posterior = noisy_regression(2000)
    estimate = slt_jax.estimate_llc(jax.random.key(0), linear_loss, posterior.center, posterior.data, num_draws=4000)
    assert Fraction(4, 2) == slt_jax.theory.regular(4).learning_coefficient
    assert abs(estimate.mean - 2.0) < max(3 * estimate.std_error, 0.1)
    assert estimate.status == "ok"
    assert str(estimate).startswith("LLC ")
