"""The curvature metric and the dynamics made for it, against Gaussians whose moments are known and against plain SGLD."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.diagnostics import monte_carlo_std_error
from slt_jax.sampling.driver import sample
from slt_jax.sampling.metrics import curvature_metric
from slt_jax.sampling.sgld import sgld
from slt_jax.sampling.underdamped import underdamped

CURVATURES = jnp.asarray([10.0, 8.0, 5.0, 1.0, 0.3, 0.1, 0.0, 0.0])
NBETA, LOCALIZATION = 1000.0, 50.0
ROTATION = jnp.linalg.qr(jax.random.normal(jax.random.key(9), (8, 8)))[0]


def rotated_quadratic(params, batch):
    return jnp.broadcast_to(0.5 * jnp.sum(CURVATURES * (ROTATION.T @ params) ** 2), batch.shape)


def gaussian(localization=LOCALIZATION):
    return LocalPosterior(rotated_quadratic, jnp.zeros(4), jnp.zeros(8), NBETA, localization)


def test_metric_is_the_inverse_of_the_damped_hessian():
    metric = curvature_metric(jax.random.key(0), gaussian(), rank=6, damping=200.0)
    stretched = metric.directions * (metric.scales - metric.rest)[None, :]
    matrix = stretched @ metric.directions.T + metric.rest * jnp.eye(8)
    exact = jnp.linalg.inv(ROTATION @ jnp.diag(NBETA * CURVATURES + 200.0) @ ROTATION.T)
    np.testing.assert_allclose(matrix, exact, rtol=1e-3, atol=1e-6)


def test_automatic_rank_and_damping_follow_the_spectrum():
    metric = curvature_metric(jax.random.key(0), gaussian())
    damping = 0.5 * 10_000.0
    assert float(1 / metric.rest) == pytest.approx(damping, rel=1e-3)
    assert len(metric.scales) == 4  # curvatures 10, 8, 5 and 1 thousand are above a tenth of the damping
    assert float(1 / curvature_metric(jax.random.key(0), gaussian(20_000.0)).rest) == pytest.approx(20_000.0)


@pytest.mark.parametrize(
    ("kernel", "step_size"),
    [
        (sgld(None), 0.1),
        (sgld(None, integrator="leimkuhler_matthews"), 0.7),
        (underdamped(None, 0.0), 0.8),
        (underdamped(None, 0.9), 0.8),
    ],
    ids=["sgld", "leimkuhler-matthews", "no-persistence", "underdamped"],
)
def test_variances_of_a_gaussian_in_stiff_and_flat_directions(kernel, step_size):
    posterior = gaussian()
    metric = curvature_metric(jax.random.key(0), posterior, rank=5, damping=200.0)
    samples = sample(
        jax.random.key(1), posterior, kernel, step_size=step_size, num_chains=64, num_draws=2000, num_burnin=500,
        thinning=3, metric=metric, observables={"z": lambda params: ROTATION.T @ params}, layout="vmap", baseline=0.0,
    )  # fmt: skip
    variances = np.mean(samples.observables["z"].astype(np.float64) ** 2, axis=(0, 1))
    np.testing.assert_allclose(variances, 1 / (NBETA * np.asarray(CURVATURES) + LOCALIZATION), rtol=0.05)


def product_loss(params, batch):
    return jnp.broadcast_to(jnp.sum((params["u"] * params["v"]) ** 2), batch.shape)


def exact_mean_of_abs(center):
    """E|u| under exp(-nβ u²v² - γ/2 (u - center)² - γ/2 v²), v integrated out, by quadrature."""
    u = np.linspace(-4, 4, 400_001)
    density = np.exp(-2.5 * (u - center) ** 2) / np.sqrt(400 * u**2 + 5)
    return float((np.abs(u) * density).sum() / density.sum())


@pytest.mark.parametrize("name", ["sgld", "metric", "underdamped"])
def test_stationary_law_on_a_singular_model_is_the_same_and_exact(name):
    center = {"u": jnp.asarray([0.5, 0.0]), "v": jnp.asarray([0.0, 0.0])}  # one smooth and one singular pair
    posterior = LocalPosterior(product_loss, jnp.zeros(4), center, 200.0, 5.0)
    metric = curvature_metric(jax.random.key(0), posterior, rank=1, damping=60.0)
    plain = sgld(None, integrator="leimkuhler_matthews")
    kernel, step_size, metric, thinning = {
        "sgld": (plain, 2e-3, None, 6),
        "metric": (plain, 0.12, metric, 6),
        "underdamped": (underdamped(None), 0.3, metric, 2),
    }[name]
    samples = sample(
        jax.random.key(1), posterior, kernel, step_size=step_size, num_chains=64, num_draws=2000, num_burnin=1000,
        thinning=thinning, metric=metric, observables={"u": lambda params: jnp.abs(params["u"])}, baseline=0.0,
        layout="vmap",
    )  # fmt: skip
    for pair, at in enumerate((0.5, 0.0)):
        values = samples.observables["u"][..., pair].astype(np.float64)
        assert abs(values.mean() - exact_mean_of_abs(at)) < 4 * monte_carlo_std_error(values) + 0.01 * values.mean()
        assert monte_carlo_std_error(values) < 0.03 * values.mean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank = 0; it must lie between 1 and the number of parameters, 8"),
        ({"rank": 9}, "rank = 9"),
        ({"damping": 49.0}, "damping = 49.0; it must be positive, finite and at least the localization 50"),
        ({"damping": float("nan")}, "damping = nan"),
    ],
)
def test_unusable_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        curvature_metric(jax.random.key(0), gaussian(), **options)


def test_flat_loss_without_localization_is_refused():
    flat = LocalPosterior(lambda params, batch: 0.0 * batch * jnp.sum(params), jnp.zeros(3), jnp.zeros(2), 1.0, 0.0)
    with pytest.raises(ValueError, match="the loss is flat at center"):
        curvature_metric(jax.random.key(0), flat)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": 8, "persistence": 1.0}])
def test_unusable_underdamped_settings_are_refused(options):
    with pytest.raises(ValueError, match=r"it (must|is)"):
        underdamped(**options)


def test_another_checkpoint_does_not_compile_the_metric_again():
    from slt_jax.sampling import metrics as module

    posterior = gaussian()
    curvature_metric(jax.random.key(0), posterior, rank=3)
    before = module._eigenpairs._cache_size()
    other = LocalPosterior(rotated_quadratic, posterior.data, posterior.center + 1.0, NBETA, LOCALIZATION)
    curvature_metric(jax.random.key(1), other, rank=3)
    assert module._eigenpairs._cache_size() == before
