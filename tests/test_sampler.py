"""A sampler tuned by the library gives exact values, whatever it is made of; a look at w* names what would not."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax import CurvatureMetric, LocalPosterior, Sampler, adam, rmsprop, sgld, sgnht, underdamped

CURVATURES = jnp.array([4.0, 2.0, 1.0, 0.5])
NBETA, LOCALIZATION = 25.0, 5.0
EXACT = float(0.5 * jnp.sum(NBETA * CURVATURES / (NBETA * CURVATURES + LOCALIZATION)))


def loss(w, batch):
    return jnp.broadcast_to(0.5 * jnp.sum(CURVATURES * w**2), batch.shape)


def quadratic():
    return LocalPosterior(loss, jnp.zeros(2), jnp.zeros(4), NBETA, LOCALIZATION)


SAMPLERS = {
    "sgld": Sampler(sgld(None)),
    "leimkuhler-matthews": Sampler(sgld(None, integrator="leimkuhler_matthews")),
    "rmsprop": Sampler(sgld(None, rmsprop())),
    "rmsprop-slow": Sampler(sgld(None, rmsprop(0.999, 1.0))),
    "adam": Sampler(sgld(None, adam())),
    "sgnht": Sampler(sgnht(None)),
    "underdamped": Sampler(underdamped(None)),
    "sgld-metric": Sampler(sgld(None), CurvatureMetric()),
    "leimkuhler-matthews-metric": Sampler(sgld(None, integrator="leimkuhler_matthews"), CurvatureMetric()),
    "sgnht-metric": Sampler(sgnht(None), CurvatureMetric()),
    "underdamped-metric": Sampler(underdamped(None), CurvatureMetric(rank=2)),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_tuned_it_gives_the_exact_value_of_a_quadratic(name):
    tuned = SAMPLERS[name].tune(jax.random.key(1), quadratic())
    samples = slt_jax.sample(
        jax.random.key(0), quadratic(), tuned, num_chains=16, num_draws=400, num_burnin=3 * tuned.num_burnin,
        thinning=max(1, tuned.num_burnin // 10), layout="vmap",
    )  # fmt: skip
    estimate = slt_jax.llc(samples)
    assert estimate.status == "ok"
    assert estimate.rhat < 1.05
    assert estimate.std_error < 0.04 * EXACT
    assert abs(estimate.mean - EXACT) < 3 * estimate.std_error


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_a_value_that_prints_its_settings(name):
    sampler = SAMPLERS[name]
    assert sampler == replace(sampler)
    assert len({sampler, replace(sampler)}) == 1
    assert "0x" not in repr(sampler)
    assert isinstance(sampler.kernel, slt_jax.Kernel)


def test_a_preconditioner_settles_at_a_scale_that_its_step_knows():
    """Gradients of minibatches are a hundred times the stabilizer: a step for the largest scale would be as much too short."""
    x = jax.random.normal(jax.random.key(0), (400, 3))
    y = 10.0 * jax.random.normal(jax.random.key(1), (400,))
    center = jnp.linalg.lstsq(x, y)[0]
    posterior = LocalPosterior(lambda w, b: 0.5 * (b["x"] @ w - b["y"]) ** 2, {"x": x, "y": y}, center, 2.0, 1.0)
    kernel = sgld(100, rmsprop())
    found = slt_jax.calibrate(jax.random.key(2), posterior, kernel=kernel)
    assert found.step_size > 5 * kernel.step_for(found.top_curvature + 1.0)


def test_a_preconditioner_is_constant_after_burnin_and_named_without_one():
    kernel = sgld(None, rmsprop())
    draw = {"num_chains": 2, "num_draws": 2000, "step_size": 1e-3}
    settled = slt_jax.sample(jax.random.key(0), quadratic(), kernel, num_burnin=500, **draw)
    longer = slt_jax.sample(jax.random.key(0), quadratic(), kernel, num_burnin=500, **draw | {"num_draws": 2100})
    scale = jax.vmap(kernel.diagonal)
    np.testing.assert_array_equal(scale(settled.chains.kernel_state), scale(longer.chains.kernel_state))
    assert "adapting" not in slt_jax.llc(settled).status
    assert "adapting: " in slt_jax.llc(slt_jax.sample(jax.random.key(0), quadratic(), kernel, **draw)).status


def test_calibration_explores_where_the_hessian_vanishes():
    """Σ w⁴ over two parameters: λ = 2/4, and γ = 1 is far from felt at nβ = 1e4."""
    posterior = LocalPosterior(
        lambda w, batch: jnp.broadcast_to(jnp.sum(w**4), batch.shape), jnp.zeros(2), jnp.zeros(2), 1e4, 1.0
    )
    kernel = sgld(None, integrator="leimkuhler_matthews")
    found = slt_jax.calibrate(jax.random.key(0), posterior, kernel=kernel)
    samples = slt_jax.sample(
        jax.random.key(1), posterior, kernel, step_size=found.step_size, num_chains=8, num_draws=500, num_burnin=1000,
        thinning=20, layout="vmap",
    )  # fmt: skip
    estimate = slt_jax.llc(samples)
    assert not estimate.diverged.any()
    assert abs(estimate.mean - 0.5) < max(3 * estimate.std_error, 0.02)


def least_squares(noise=1.0, n=2000):
    x = jax.random.normal(jax.random.key(3), (n, 4))
    y = x @ jnp.arange(4.0) + noise * jax.random.normal(jax.random.key(4), (n,))
    center = jnp.linalg.lstsq(x, y)[0]
    return LocalPosterior(lambda w, b: 0.5 * (b["x"] @ w - b["y"]) ** 2, {"x": x, "y": y}, center, 263.0, 1.0)


@pytest.mark.parametrize(
    "kernel", [sgld(8), sgld(8, integrator="leimkuhler_matthews"), underdamped(8), sgnht(8)], ids=str
)
def test_heating_is_foreseen_bounded_by_calibration_and_named(kernel):
    posterior = least_squares()
    found = slt_jax.calibrate(jax.random.key(0), posterior, kernel=kernel)
    assert found.heating <= 0.05 + 1e-6
    assert found.inspection.findings == ()
    longer = slt_jax.inspect(posterior, kernel, step_size=4 * found.step_size)
    if found.heating > 0.01:  # a thermostat absorbs noise that is the same in all directions
        assert found.batch_size > 8
        assert any(finding.startswith("heated: ") for finding in longer.findings)


def test_heating_is_as_large_as_foreseen():
    posterior = least_squares()
    step_size, kernel = 3e-4, sgld(16, integrator="leimkuhler_matthews")
    foreseen = slt_jax.inspect(posterior, kernel, step_size=step_size).heating
    samples = slt_jax.sample(
        jax.random.key(0), posterior, kernel, step_size=step_size, num_chains=16, num_draws=2000, num_burnin=500,
        thinning=10, layout="vmap",
    )  # fmt: skip
    estimate = slt_jax.llc(samples)
    exact = float(0.5 * jnp.sum(jnp.ones(4)))  # γ is far below the curvature
    assert foreseen == pytest.approx(step_size * 263.0**2 / (4 * 16), rel=0.15)
    assert estimate.mean / exact - 1 == pytest.approx(foreseen, rel=0.3)
    assert "heated: " in estimate.status


def test_what_is_no_minimum_is_named():
    posterior = least_squares()
    kernel = sgld(256)
    assert slt_jax.inspect(posterior, kernel).findings == ()
    off = slt_jax.inspect(replace(posterior, center=posterior.center + 0.1), kernel)
    assert off.gain == pytest.approx(263.0 * 0.5 * 4 * 0.01, rel=0.2)
    assert off.findings[0].startswith("not a minimum: the gradient")
    saddle = LocalPosterior(
        lambda w, b: jnp.broadcast_to(w[0] ** 2 - w[1] ** 2, b.shape), jnp.zeros(2), jnp.zeros(2), 100.0, 1.0
    )
    assert slt_jax.inspect(saddle, kernel).findings[0].startswith("not a minimum: at w* a direction")


@pytest.mark.parametrize(
    "depends",
    [
        lambda w, b: 0.5 * (b["x"] @ w - b["y"]) ** 2 / len(b["y"]),
        lambda w, b: 0.5 * (b["x"] @ w - b["y"] + b["y"].mean()) ** 2,
        lambda w, b: 0.5 * ((b["x"] * jax.random.bernoulli(jax.random.key(0), 0.9, b["x"].shape)) @ w - b["y"]) ** 2,
        lambda w, b: jax.nn.logsumexp((b["x"] * w[None]) @ b["x"].T, axis=1),
    ],
    ids=["batch-size", "batch-mean", "dropout", "in-batch"],
)
def test_a_loss_that_depends_on_neighbours_is_refused(depends):
    with pytest.raises(ValueError, match="neighbours in the batch"):
        slt_jax.inspect(replace(least_squares(), loss_fn=depends), sgld(8))


def test_an_example_that_is_not_finite_is_named():
    posterior = least_squares(n=20_000)
    bad = {**posterior.data, "y": posterior.data["y"].at[12_345].set(jnp.nan)}
    with pytest.raises(ValueError, match="example 12345 of the data"):
        slt_jax.inspect(replace(posterior, data=bad), sgld(8))


def test_below_the_center_and_too_few_draws_are_named():
    posterior = least_squares()
    moved = replace(posterior, center=posterior.center + 1.0)
    samples = slt_jax.sample(jax.random.key(0), moved, sgld(64), step_size=1e-4, num_chains=2, num_draws=400)
    assert "below the center: " in slt_jax.llc(samples).status
    few = slt_jax.sample(jax.random.key(0), posterior, sgld(64), step_size=1e-5, num_chains=2, num_draws=40)
    assert "too few draws: " in slt_jax.llc(few).status


def test_coarse_losses_are_named():
    posterior = least_squares()
    shifted = replace(posterior, loss_fn=lambda w, b: 1e6 + posterior.loss_fn(w, b))
    assert any(finding.startswith("coarse: ") for finding in slt_jax.inspect(shifted, sgld(8)).findings)


def test_the_step_is_that_of_where_chains_live_not_of_a_flat_center():
    """½(0.002|w|² + w₁²w₂²) at nβ = 1000: curvature 3 at w*, a hundred where a chain goes."""
    grid = np.linspace(-5, 5, 2001)
    values = 0.5 * (0.002 * (grid[:, None] ** 2 + grid**2) + (grid[:, None] * grid) ** 2)
    density = np.exp(-1000 * values - (grid[:, None] ** 2 + grid**2) / 2)
    exact = 1000 * (values * density).sum() / density.sum()

    def loss(w, batch):
        return jnp.broadcast_to(0.5 * (0.002 * jnp.sum(w**2) + (w[0] * w[1]) ** 2), batch.shape)

    posterior = LocalPosterior(loss, jnp.zeros(2), jnp.zeros(2), 1000.0, 1.0)
    kernel = sgld(None, integrator="leimkuhler_matthews")
    found = slt_jax.calibrate(jax.random.key(0), posterior, kernel=kernel)
    assert found.step_size < kernel.step_for(found.top_curvature + 1.0) / 5
    samples = slt_jax.sample(
        jax.random.key(1), posterior, kernel, step_size=found.step_size, num_chains=16, num_draws=1000,
        num_burnin=3 * found.num_burnin, thinning=max(1, found.num_burnin // 20), layout="vmap",
    )  # fmt: skip
    estimate = slt_jax.llc(samples)
    assert abs(estimate.mean - exact) < 3 * estimate.std_error
    assert estimate.std_error < 0.1 * exact
    # On a quadratic there is no other place, and the step is that of w* to the digit.
    found = slt_jax.calibrate(jax.random.key(0), quadratic(), kernel=kernel)
    assert found.step_size == pytest.approx(kernel.step_for(found.top_curvature + LOCALIZATION), rel=1e-6)
