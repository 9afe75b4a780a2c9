"""The toy model of superposition: its exact loss, its polygons as minima, its exhibit at the tiny configuration."""

import json
from fractions import Fraction

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.optimize import minimize

from configs.superposition import CONFIGS, Selection, tiny
from experiments.superposition import EXPERIMENT
from experiments.superposition.check import _is_copy, _slice, labellings
from experiments.superposition.landscape import descend, loss_of, to_point, unravel
from experiments.superposition.page import stayed
from experiments.superposition.phases import gaussian_llc
from experiments.superposition.predictions import crossings
from experiments.superposition.selection import carry, crossing, pooled, shares, temperatures
from experiments.superposition.training import plateaus
from slt_jax.models.superposition import (
    example_losses,
    population_loss,
    population_losses,
    sample_examples,
    to_params,
)
from slt_jax.theory.superposition import (
    feature_losses,
    polygon,
    polygons,
    squared_error,
    squared_error_gradient,
)
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder

EVERY = [phase for features in (4, 5, 6) for phase in polygons(features)]
NAMES = [f"{phase.features} features, {phase.name}" for phase in EVERY]


def by_quadrature(slope, bias, own):
    """∫₀¹ (own·s - ReLU(slope·s + bias))² ds, Gauss-Legendre on each side of the kink: exact for its polynomials."""
    kink = np.clip(-bias / slope, 0, 1) if slope else 0.0
    nodes, weights = np.polynomial.legendre.leggauss(4)
    total = 0.0
    for first, last in ((0.0, kink), (kink, 1.0)):
        s = first + (last - first) * (nodes + 1) / 2
        total += (last - first) / 2 * np.sum(weights * (own * s - np.maximum(slope * s + bias, 0)) ** 2)
    return total


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_integral_and_its_gradient_against_quadrature(own):
    rng = np.random.default_rng(0)
    slopes = np.concatenate([rng.normal(size=40), np.zeros(4)])
    biases = np.concatenate([rng.normal(size=40) * 0.5, [-0.5, 0.0, 0.3, 2.0]])
    expected = [by_quadrature(a, b, own) for a, b in zip(slopes, biases, strict=True)]
    np.testing.assert_allclose(squared_error(slopes, biases, own), expected, atol=1e-13)
    by_slope, by_bias = squared_error_gradient(slopes[:40], biases[:40], own)
    step = 1e-6
    for found, moved in ((by_slope, (step, 0.0)), (by_bias, (0.0, step))):
        ahead = squared_error(slopes[:40] + moved[0], biases[:40] + moved[1], own)
        behind = squared_error(slopes[:40] - moved[0], biases[:40] - moved[1], own)
        np.testing.assert_allclose(found, (ahead - behind) / (2 * step), atol=1e-8)


def test_population_loss_is_the_mean_over_examples():
    rng = np.random.default_rng(1)
    params = {"weights": jnp.asarray(rng.normal(size=(2, 6)), jnp.float32), "biases": jnp.asarray(rng.normal(size=6) * 0.3, jnp.float32)}  # fmt: skip
    losses = np.asarray(example_losses(params, sample_examples(jax.random.key(0), 200_000, 6)))
    exact = float(population_loss(params))
    assert abs(losses.mean() - exact) < 4 * losses.std() / np.sqrt(len(losses))
    whole = feature_losses(np.asarray(params["weights"], float), np.asarray(params["biases"], float))
    np.testing.assert_allclose(population_losses(params, jnp.arange(6)), whole, rtol=1e-5)
    assert exact == pytest.approx(whole.mean(), rel=1e-5)


def test_ravelled_parameters_come_back():
    params = to_params(polygon(6, 5, 1))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, unravel(6, to_point(polygon(6, 5, 1)))))


def test_learning_coefficients_are_those_published():
    found = {phase.name: phase.learning_coefficient for phase in polygons(6)}
    half = {"4-gon": 15, "4+": 16, "4++": 17, "5-gon": 14, "5+": 17, "6-gon": 17}
    assert found == {name: Fraction(twice, 2) for name, twice in half.items()}
    assert polygon(4, 4).learning_coefficient == Fraction(11, 2)


def test_losses_that_are_known():
    assert polygon(4, 4).loss == pytest.approx(0.0, abs=1e-15)
    for positive in range(3):  # a dead feature costs 1/18; a constant output of 1/12 takes 1/144 of it back
        assert polygon(6, 4, positive).loss == pytest.approx(2 / 18 - positive / 144, rel=1e-12)
    assert polygon(6, 5).loss - polygon(6, 5, 1).loss == pytest.approx(1 / 144, rel=1e-9)


def ravelled_loss(features, point):
    return float(feature_losses(point[: 2 * features].reshape(2, features), point[2 * features :]).mean())


def flat_directions(phase):
    """Tangents of what leaves the loss as it is: rotation, silent biases, and silent columns beside negative live biases."""
    features, silent = phase.features, range(phase.features - phase.num_silent, phase.features)
    rotation = np.concatenate([np.stack([-phase.weights[1], phase.weights[0]]).ravel(), np.zeros(features)])
    rows = [np.eye(3 * features)[2 * features + i] for i in silent]
    if phase.bias < 0:
        rows += [np.eye(3 * features)[row * features + i] for i in silent for row in (0, 1)]
    return np.stack([rotation, *rows])


@pytest.mark.parametrize("phase", EVERY, ids=NAMES)
def test_loss_rises_with_the_square_in_every_direction_that_is_not_flat(phase):
    """The claim behind every λ, kinks included: (L(w + tv) - L(w))/t² has a positive minimum over unit v across the flat ones."""
    center = np.concatenate([phase.weights.ravel(), phase.biases])
    flat = np.linalg.qr(flat_directions(phase).T)[0]
    assert flat.shape[1] == phase.flat_directions
    assert phase.learning_coefficient == Fraction(len(center) - flat.shape[1], 2)

    def steepness(direction, size):
        across = direction - flat @ (flat.T @ direction)
        across = across / np.linalg.norm(across)
        return (ravelled_loss(phase.features, center + size * across) - phase.loss) / size**2

    rng = np.random.default_rng(2)
    starts = rng.normal(size=(6, len(center)))
    least = min(
        minimize(steepness, start, args=(1e-3,), method="L-BFGS-B", options={"maxiter": 60}).fun for start in starts
    )
    assert least > 1e-3
    assert max(abs(steepness(start, 1e-3) / steepness(start, 1e-4) - 1) for start in starts) < 0.05


@pytest.mark.parametrize("phase", EVERY[4:], ids=NAMES[4:])
def test_silent_features_stay_silent_in_a_neighbourhood(phase):
    silent = slice(phase.features - phase.num_silent, phase.features)
    rng, weights, biases = np.random.default_rng(0), phase.weights, phase.biases
    biases[silent] += 0.1 * rng.uniform(-1, 1, phase.num_silent)
    if phase.bias < 0:
        weights[:, silent] += 0.1 * rng.uniform(-1, 1, (2, phase.num_silent))
    assert feature_losses(weights, biases).mean() == pytest.approx(phase.loss, abs=1e-15)


@pytest.mark.parametrize("phase", polygons(6), ids=lambda phase: phase.name)
def test_gradient_vanishes_and_descent_comes_back(phase):
    point = to_point(phase)
    assert float(jnp.abs(jax.grad(lambda at: loss_of(6, at))(point)).max()) < 1e-6
    displaced = point + 0.02 * jax.random.normal(jax.random.key(3), point.shape)
    assert float(loss_of(6, descend(displaced[None], 6)[0])) == pytest.approx(phase.loss, abs=2e-4)


def test_polygons_that_are_not_known_are_refused():
    for features, sides, positive in ((7, 7, 0), (6, 3, 0), (6, 5, 2), (6, 4, -1)):
        with pytest.raises(ValueError, match="known are 4 to 6 features"):
            polygon(features, sides, positive)


def test_gaussian_llc_of_known_curvatures():
    assert gaussian_llc(np.array([-1e-9, 1.0, 3.0]), 1.0) == pytest.approx(0.5 * (0.5 + 0.75))


def test_plateaus_and_saddles():
    loss = np.array([0.2, 0.15, 0.104, 0.104, 0.1041, 0.104, 0.104, 0.08, 0.062, 0.062, 0.0621, 0.062, 0.062])
    lowest = np.array([-0.3, -0.2, -0.08, -0.08, -0.07, -0.08, -0.08, -0.1, 0.001, -0.002, 0.0, 0.0, 0.0])
    first, second = plateaus(loss, lowest)
    assert (first.first, first.last, first.is_saddle) == (2, 6, True)
    assert (second.first, second.last, second.is_saddle) == (8, 12, False)


def test_shares_and_crossing():
    phases = polygons(6)
    ends = np.array([phases[3].loss, phases[5].loss + 1e-4, 0.2])
    np.testing.assert_allclose(shares(ends, np.array([0.5, 0.3, 0.2]), phases), [0, 0, 0, 0.5, 0, 0.3, 0.2], atol=1e-12)
    n = np.array([100, 400])
    assert crossing(n, np.array([0.8, 0.2]), np.array([0.2, 0.8])) == pytest.approx(200)
    assert np.isnan(crossing(n, np.array([0.8, 0.7]), np.array([0.2, 0.3])))
    schedule = temperatures(Selection(examples=(10, 40), stages=2))
    np.testing.assert_allclose(schedule, [[np.sqrt(2.5), 10], [20, 40]], rtol=1e-6)


def test_a_population_finds_the_free_energy_of_a_gaussian():
    """∫ exp(-κ|x|²/2) N(x; 0, I) dx = (1 + κ)^(-d/2), exactly: the mover, the weights and their product."""
    size, stiffness = 4, 30.0
    settings = Selection(num_moves=2, num_leapfrog=6)  # 6 steps of 1: a period, nearly
    schedule = np.linspace(0, 1, 21, dtype=np.float32)[1:].reshape(2, 10) ** 2

    def population(key):
        return carry(
            key, jax.random.normal(key, (512, size)), lambda x: -0.5 * jnp.sum(x**2), lambda x: -0.5 * stiffness * jnp.sum(x**2),
            schedule, lambda share: 1.0 / jnp.sqrt(1 + stiffness * share), settings,
        )  # fmt: skip

    paths = jax.jit(jax.vmap(population))(jax.random.split(jax.random.key(0), 8))
    found = np.asarray(paths.free_energy)
    exact = size / 2 * np.log1p(stiffness * schedule[:, -1])
    error = found.std(axis=0, ddof=1) / np.sqrt(8)
    assert np.all(np.abs(found.mean(axis=0) - exact) < 3 * error), (found.mean(axis=0), exact, error)
    assert np.all(error < 0.05)
    assert np.all(paths.acceptance > 0.6)


@pytest.mark.parametrize("phase", [polygon(6, 5), polygon(6, 6)], ids=lambda phase: phase.name)
def test_slice_meets_every_circle_once(phase):
    """The slice integrates the prior, which is on all circles, to 1: <Tv, t> is then a standard normal, of mean part 1/√(2π)."""
    generator, basis, tangent = _slice(phase)
    np.testing.assert_allclose(np.linalg.norm(basis.T @ generator.T @ tangent), 1, rtol=1e-12)
    np.testing.assert_allclose(basis.T @ tangent, 0, atol=1e-12)
    point = np.random.default_rng(0).normal(size=18)
    turned = point + np.sin(0.3) * generator @ point + (1 - np.cos(0.3)) * generator @ generator @ point
    assert float(loss_of(6, jnp.asarray(turned))) == pytest.approx(float(loss_of(6, jnp.asarray(point))), rel=1e-5)
    copies = np.stack([to_point(phase), np.asarray(to_point(phase))])
    columns = copies.reshape(2, 3, 6)[1]
    columns[:, [1, 2]] = columns[:, [2, 1]]  # another labelling
    assert list(_is_copy(copies, phase, [phase.loss])) == [True, False]


def test_laplace_needs_the_curvature_of_the_prior():
    found, without = (list(crossings(one).values()) for one in (1.0, 0.0))
    np.testing.assert_allclose(found, [445.1, 601.0, 139.4, 261.3], atol=0.1)
    np.testing.assert_allclose(without, [445.1, 601.0, 112.3, 253.1], atol=0.1)
    assert [labellings(polygon(6, k)) for k in (4, 5, 6)] == [90, 144, 120]


def test_populations_are_pooled_by_their_evidence():
    share = np.array([[[0.8, 0.2], [0.2, 0.8]], [[0.6, 0.4], [0.1, 0.9]]])
    energy = np.array(
        [[1.0, 2.0], [1.0, 2.0 + np.log(3)]]
    )  # at the second n the first population weighs three times the other
    found = pooled(np.array([100, 400]), share, energy, ((0,), (1,)), (0, 1))
    np.testing.assert_allclose(found.share, [[0.7, 0.3], [0.175, 0.825]])
    np.testing.assert_allclose(found.free_energy[0], 1 - np.log([0.7, 0.3]))
    np.testing.assert_allclose(found.lead, np.log([0.3 / 0.7, 0.825 / 0.175]))
    np.testing.assert_allclose(found.share_error[0], 0.1)  # two populations: half their distance
    assert 100 < found.crossing < 400


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    folder = RunFolder.open("superposition", "tiny", tiny(), tmp_path_factory.mktemp("runs") / "tiny")
    assert EXPERIMENT.compute(tiny(), folder) == []
    return folder


def test_tiny_run_reports(tiny_run):
    results = tiny_run.read_results()
    assert results.llc.dims == ("phase", "nbeta", "ratio")
    assert np.isfinite(results.llc).all()
    np.testing.assert_allclose(results.share.sum("state"), 1, atol=1e-6)
    np.testing.assert_allclose(results.loss, results.exact_loss, atol=1e-6)
    summary = json.loads((tiny_run.path / "summary.json").read_text())
    assert summary["predictions"]["leading order"] == pytest.approx(445, abs=0.5)
    assert summary["predictions"]["with the prior"] == pytest.approx(601, abs=0.5)
    assert summary["phases"]["5-gon"]["gaussian_llc"][0] == pytest.approx(4.96, abs=0.01)
    assert (tiny_run.path / "report.html").read_text().count("data:image/png;base64,") == 4


def test_a_second_start_computes_nothing(tiny_run):
    before = {path: path.stat().st_mtime_ns for path in (tiny_run.path / "pieces").rglob("*.npz")}
    EXPERIMENT.compute(tiny(), tiny_run)
    assert {path: path.stat().st_mtime_ns for path in (tiny_run.path / "pieces").rglob("*.npz")} == before


def test_a_page_warns_of_moves_that_are_refused_and_of_weights_that_are_worth_little(tiny_run):
    results = tiny_run.read_results()
    fine = results.assign(weight_ess=results.weight_ess * 0 + 0.9, acceptance=results.acceptance * 0 + 0.9, alone_acceptance=results.alone_acceptance * 0 + 0.9)  # fmt: skip
    assert EXPERIMENT.page(fine, tiny()).warnings == []
    assert "Only 20% of the Hamiltonian moves" in EXPERIMENT.page(fine.assign(acceptance=results.acceptance * 0 + 0.2), tiny()).warnings[0]  # fmt: skip
    assert "worth 10%" in EXPERIMENT.page(fine.assign(weight_ess=results.weight_ess * 0 + 0.1), tiny()).warnings[0]
    assert "2 of 2 runs of SGD" in EXPERIMENT.page(fine.assign(training_loss=results.training_loss * np.nan), tiny()).warnings[0]  # fmt: skip
    plt.close("all")


def test_an_estimate_with_a_draw_of_lower_loss_has_left(tiny_run):
    at = tiny_run.read_results().isel(phase=0, nbeta=0, ratio=0).assign(llc_rhat=1.0, llc_ess=1000.0)
    assert stayed(at.assign(llc_lowest=0.5))
    assert not stayed(at.assign(llc_lowest=-0.5))
    assert not stayed(at.assign(llc_lowest=0.5, llc_rhat=1.2))


def test_configurations_that_contradict_themselves_are_refused():
    from dataclasses import replace

    config = CONFIGS["demo"]()
    for wrong, sentence in (
        (replace(config, features=5), "features = 5"),
        (replace(config, selection=replace(config.selection, examples=(100, 50))), "ascending"),
        (replace(config, selection=replace(config.selection, num_repeats=1)), "error bars"),
        (replace(config, training=replace(config.training, num_records=7)), "does not divide"),
        (replace(config, check=replace(config.check, num_repeats=1)), "error bars"),
        (replace(config, selection=replace(config.selection, num_particles=1)), "at least 8"),
        (replace(config, check=replace(config.check, examples=(77,))), "not among"),
        (replace(config, chains=replace(config.chains, num_draws=0)), "must be positive"),
        (replace(config, chains=replace(config.chains, nbetas=(1e8,))), "float32"),
        (replace(config, chains=replace(config.chains, ratios=(-0.1,))), "must be positive"),
        (replace(config, chains=replace(config.chains, num_chains=1)), "R-hat"),
    ):
        with pytest.raises(UserError, match=sentence):
            EXPERIMENT.check(wrong)
