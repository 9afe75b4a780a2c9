"""Free energies: what is refused and flagged, restricted posteriors, phases. Exact values: test_estimators_exact."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax.estimators.free_energy import (
    free_energy,
    integration_weights,
    phase_difference,
    phase_fractions,
    two_temperature_lambda,
)
from slt_jax.models import singular
from slt_jax.posterior import LocalPosterior, by_path, restrict
from slt_jax.theory.quadrature import linear_network_posterior

CURVATURES = {"a": 4.0, "b": 9.0}
KERNEL = slt_jax.sgld(None, integrator="leimkuhler_matthews")
NODES = np.geomspace(0.01, 10.0, 7)


def quadratic(params, batch):
    energy = sum(0.5 * h * jnp.sum(params[name] ** 2) for name, h in CURVATURES.items())
    return jnp.broadcast_to(energy + 3.0, batch.shape)


def posterior(localization=2.0):
    return LocalPosterior(quadratic, jnp.zeros(5), {"a": jnp.zeros(2), "b": jnp.zeros(1)}, 1.0, localization)


def exact(nbeta, curvatures=(4.0, 4.0, 9.0)):
    return 3.0 * nbeta + 0.5 * sum(np.log1p(nbeta * h / 2.0) for h in curvatures)


def run(given=None, **changes):
    options = {
        "step_sizes": lambda nbeta: 0.3 / (9 * nbeta + 2), "num_chains": 8, "num_draws": 400, "thinning": 10,
        "num_burnin": 100, "num_gaussian_draws": 20_000, "layout": "vmap", "chunk_size": 2, **changes,
    }  # fmt: skip
    return free_energy(jax.random.key(0), given or posterior(), KERNEL, NODES, **options)


@pytest.fixture(scope="module")
def found():
    return run()


def test_free_energy_of_a_quadratic_is_exact(found):
    assert found.status == "ok"
    assert found.integration_error < 0.01
    assert (np.abs(found.value - exact(NODES)) < 3 * found.std_error + found.integration_error).all()
    llc = 0.5 * sum(NODES * h / (NODES * h + 2) for h in (4.0, 4.0, 9.0))
    assert (np.abs(found.excess - llc) < 4 * found.excess_std_error).all()
    assert found.mean_loss == pytest.approx(3 + found.excess / NODES)
    assert np.diag(found.covariance) == pytest.approx(found.std_error**2)
    assert (np.diff(found.std_error) > 0).all()


def test_free_energy_of_a_part_has_the_prior_of_that_part():
    part = run(restrict(posterior(), by_path("b")))
    assert (np.abs(part.value - exact(NODES, (9.0,))) < 3 * part.std_error + part.integration_error).all()


def test_a_node_that_diverges_ends_the_integral():
    found = run(step_sizes=[0.1] * 6 + [100.0])
    assert np.isfinite(found.value[:6]).all()
    assert np.isnan(found.value[6])
    assert np.isnan(found.std_error[6])
    assert found.status == "diverged: chains at nbeta = [10.0]; F is NaN from the first of them on"
    assert found.diverged[6].all()


def test_a_lowest_node_that_is_too_high_is_said():
    found = free_energy(
        jax.random.key(0), posterior(1e-3), KERNEL, [10.0, 20.0], step_sizes=[1e-3, 1e-3], num_chains=2, num_draws=20,
        num_gaussian_draws=500,
    )  # fmt: skip
    assert found.status.startswith("lowest node too high: ")


def test_default_steps_are_those_of_calibrate(monkeypatch):
    seen = []
    import slt_jax.estimators.free_energy as module

    def stop(key, posterior, kernel, settings, **options):
        seen.append(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "sample_chains", stop)
    with pytest.raises(KeyboardInterrupt):
        run(step_sizes=None)
    np.testing.assert_allclose(seen[0].step_size[::8], 0.3 / (9 * NODES + 2), rtol=0.02)
    np.testing.assert_allclose(seen[0].nbeta[::8], NODES, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: free_energy(jax.random.key(0), posterior(), KERNEL, [1.0]), "at least two positive numbers"),
        (lambda: free_energy(jax.random.key(0), posterior(), KERNEL, [0.0, 1.0]), "at least two positive numbers"),
        (lambda: free_energy(jax.random.key(0), posterior(), KERNEL, [2.0, 1.0]), "increasing"),
        (
            lambda: free_energy(jax.random.key(0), posterior(0.0), KERNEL, [1.0, 2.0]),
            "localization = 0 leaves no prior",
        ),
        (lambda: run(step_sizes=[0.1]), r"step_sizes has shape \(1,\) for 7 nodes"),
    ],
)
def test_bad_nodes_are_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_phases_are_compared_by_their_free_energies(found):
    shifted = dataclasses.replace(found, value=found.value + np.log(3.0))
    difference = phase_difference(shifted, found)
    np.testing.assert_allclose(difference.value, np.log(3.0))
    np.testing.assert_allclose(difference.std_error, np.sqrt(2) * found.std_error)
    fractions = phase_fractions([shifted, found])
    np.testing.assert_allclose(fractions.value, [[0.25] * 7, [0.75] * 7])
    # d share/d(F₁ - F₂) = share(1 - share)
    np.testing.assert_allclose(fractions.std_error, np.tile(3 / 16 * difference.std_error, (2, 1)))
    three_copies = phase_fractions([shifted, found], log_priors=[np.log(3.0), 0.0])
    np.testing.assert_allclose(three_copies.value, 0.5)
    with pytest.raises(ValueError, match="different nbeta"):
        phase_difference(found, dataclasses.replace(found, nbeta=2 * found.nbeta))
    with pytest.raises(ValueError, match="log_priors has shape"):
        phase_fractions([shifted, found], log_priors=[0.0])


def test_errors_of_nodes_are_weighted_once_each():
    """A node's error enters every later value with the sum of its weights in the intervals on both sides."""
    trapezoid, ends = integration_weights(np.exp(np.arange(4.0)))
    np.testing.assert_allclose(trapezoid[-1], [0.5, 1, 1, 0.5])
    np.testing.assert_allclose(ends[-1], [1 / 12, 0, 0, -1 / 12], atol=1e-15)
    assert (trapezoid[0] == 0).all()


def test_wbic_and_two_temperatures_ask_for_the_right_temperatures():
    given = posterior()
    samples = slt_jax.sample(jax.random.key(0), given, KERNEL, step_size=0.01, num_chains=2, num_draws=20)
    with pytest.raises(ValueError, match=r"samples have nbeta = 1; WBIC of n = 5 is at n / log n = 3\.1"):
        slt_jax.wbic(samples, given)
    with pytest.raises(ValueError, match="two temperatures must differ"):
        two_temperature_lambda(samples, samples)


def test_a_sampler_is_tuned_at_every_node():
    """Steps, burn-in and metric are the sampler's own; the metric's run of its own for each node gives the same F."""
    options = {"num_chains": 8, "num_draws": 300, "thinning": 10, "layout": "vmap", "pilot_steps": 100}
    for metric in (None, slt_jax.CurvatureMetric(max_rank=3)):
        sampler = slt_jax.Sampler(KERNEL, metric)
        found = free_energy(jax.random.key(3), posterior(), sampler, NODES, num_gaussian_draws=20_000, **options)
        assert found.status == "ok"
        assert (np.abs(found.value - exact(NODES)) < 3 * found.std_error + found.integration_error).all(), metric
        llc = 0.5 * sum(NODES * h / (NODES * h + 2) for h in (4.0, 4.0, 9.0))
        assert (np.abs(found.excess - llc) < 4 * found.excess_std_error).all(), metric


def test_a_sampler_brings_its_own_steps():
    sampler = slt_jax.Sampler(KERNEL)
    with pytest.raises(
        ValueError, match="a Sampler brings its own step size and metric; leave step_sizes and metric out"
    ):
        free_energy(jax.random.key(0), posterior(), sampler, NODES, step_sizes=lambda nbeta: 0.1)


def test_free_energy_of_a_linear_network_is_that_of_quadrature():
    """w* = 0, where the Hessian vanishes: a Sampler finds the steps, which the curvature at w* would not."""
    model, nodes = singular.reduced_rank(2, 2, 1), np.geomspace(0.01, 30.0, 9)
    found = free_energy(
        jax.random.key(5), LocalPosterior(model.loss_fn, model.data, model.center, 1.0, 1.0),
        slt_jax.Sampler(slt_jax.underdamped(None)), nodes, num_chains=16, num_draws=400, thinning=20,
        num_gaussian_draws=50_000, pilot_steps=200, layout="vmap",
    )  # fmt: skip
    assert found.status == "ok"
    truth = np.array([linear_network_posterior(2, 2, nbeta)[:3] for nbeta in nodes])
    assert (np.abs(found.value - truth[:, 0]) < 3 * found.std_error + found.integration_error).all()
    assert (np.abs(found.excess - nodes * truth[:, 1]) < 4 * found.excess_std_error).all()
