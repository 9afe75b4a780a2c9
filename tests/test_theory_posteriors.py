"""Closed forms and quadrature against independently computed moments of Gaussian and singular posteriors."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import exp1

from slt_jax.estimators.free_energy import integration_weights
from slt_jax.theory import (
    Gaussian,
    deep_linear_network,
    grid_posterior,
    linear_network_posterior,
    linear_regression_losses,
    local_gaussian,
    log_mean_exponential,
    normal_crossing_posterior,
    squared_unit,
    squared_unit_limit,
)
from slt_jax.theory.gaussian import Quadratics

REFERENCE = json.loads((Path(__file__).parent / "data" / "estimators.json").read_text())
REGRESSION = REFERENCE["gaussian_linear_regression"]
RESTRICTED = REFERENCE["restricted_susceptibility_gaussian"]
CROSSINGS = REFERENCE["normal_crossing_gaussian_prior"]["cases"]
HALF_LOG = 0.5 * np.log(2 * np.pi)
close = pytest.approx


def regression_losses():
    return linear_regression_losses(REGRESSION["X"], REGRESSION["y"], HALF_LOG)


def regression_observables():
    """a·w and ½|w|²."""
    zero = np.zeros((3, 3))
    return Quadratics(np.stack([zero, np.eye(3)]), np.stack([REGRESSION["a"], np.zeros(3)]), np.zeros(2))


def regression_posterior(nbeta=REGRESSION["nbeta"]):
    return local_gaussian(regression_losses(), REGRESSION["center"], nbeta, REGRESSION["gamma"])


def test_gaussian_moments():
    losses, (posterior, free_energy) = regression_losses(), regression_posterior()
    np.testing.assert_allclose(posterior.mean, REGRESSION["posterior_mean"], rtol=1e-12)
    np.testing.assert_allclose(posterior.covariance, REGRESSION["posterior_cov"], rtol=1e-12)
    np.testing.assert_allclose(posterior.means(losses), REGRESSION["mean_losses"], rtol=1e-12)
    np.testing.assert_allclose(posterior.covariances(losses, losses), REGRESSION["cov_losses"], rtol=1e-10)
    expected = [REGRESSION["cov_phi1_losses"], REGRESSION["cov_phi2_losses"]]
    influences = posterior.covariances(regression_observables(), losses)
    np.testing.assert_allclose(influences, expected, rtol=1e-9)
    assert -REGRESSION["nbeta"] / 6 * influences[0, 2] == close(
        REGRESSION["d_mean_phi1_d_weight_of_example_2"], rel=1e-10
    )
    mean_loss = posterior.means(losses).mean()
    assert mean_loss == close(REGRESSION["mean_L"], rel=1e-12)
    assert posterior.covariances(losses.mean(), losses.mean())[0, 0] == close(REGRESSION["var_L"], rel=1e-12)
    at_center = losses.at(REGRESSION["center"]).mean()
    assert at_center == close(REGRESSION["L_at_center"], rel=1e-12)
    assert REGRESSION["nbeta"] * (mean_loss - at_center) == close(REGRESSION["llc"], rel=1e-12)
    assert free_energy == close(REGRESSION["free_energy"], rel=1e-12)
    assert free_energy == close(REGRESSION["free_energy_by_TI"], rel=1e-12)


def test_gaussian_free_energies_and_mean_losses_at_other_temperatures():
    losses = regression_losses()
    for nbeta, expected in REGRESSION["F_at"].items():
        posterior, free_energy = regression_posterior(float(nbeta))
        assert free_energy == close(expected, rel=1e-12, abs=1e-12)
        assert posterior.means(losses).mean() == close(REGRESSION["mean_L_at"][nbeta], rel=1e-12)


def test_gaussian_fluctuation_waic_and_wbic():
    losses, (posterior, _) = regression_losses(), regression_posterior()
    functional_variance = np.diag(posterior.covariances(losses, losses)).sum()
    training = -log_mean_exponential(posterior, losses).mean()
    beta = REGRESSION["beta"]
    assert functional_variance == close(REGRESSION["V_n"], rel=1e-12)
    assert beta * functional_variance / 2 == close(REGRESSION["nu"], rel=1e-12)
    assert training == close(REGRESSION["T_n"], rel=1e-12)
    assert training + beta / 6 * functional_variance == close(REGRESSION["waic_watanabe_beta"], rel=1e-12)
    assert training + functional_variance / 6 == close(REGRESSION["waic_beta1_form"], rel=1e-12)
    nbeta = 6 / np.log(6)
    assert nbeta == close(REGRESSION["wbic_nbeta"], rel=1e-12)
    assert 6 * regression_posterior(nbeta)[0].means(losses).mean() == close(REGRESSION["wbic"], rel=1e-12)


def test_improper_gaussians_are_refused():
    with pytest.raises(ValueError, match="localization must be positive"):
        local_gaussian(regression_losses(), REGRESSION["center"], 1.0, 0.0)
    saddle = Quadratics(-np.eye(2)[None], np.zeros((1, 2)), np.zeros(1))
    with pytest.raises(ValueError, match="least eigenvalue is -1"):
        local_gaussian(saddle, np.zeros(2), 2.0, 1.0)
    with pytest.raises(ValueError, match="no mean under this posterior"):
        log_mean_exponential(Gaussian(np.zeros(2), 2 * np.eye(2)), saddle)


def test_restricted_susceptibilities_of_a_gaussian():
    losses = linear_regression_losses(RESTRICTED["X"], RESTRICTED["y"])
    center, nbeta, gamma = RESTRICTED["center"], RESTRICTED["nbeta"], RESTRICTED["gamma"]
    part = losses.restricted([0], center)
    inside, free_inside = local_gaussian(part, center[:1], nbeta, gamma)
    full, free_full = local_gaussian(losses, center, nbeta, gamma)
    at_center = losses.at(center).mean()
    assert at_center == close(RESTRICTED["L_center"], rel=1e-10)
    phi = inside.means(part).mean() - at_center
    assert phi == close(RESTRICTED["E_C_phi"], rel=1e-10)
    np.testing.assert_allclose(inside.means(part), RESTRICTED["E_C_losses"], rtol=1e-10)
    np.testing.assert_allclose(full.means(losses), RESTRICTED["E_full_losses"], rtol=1e-10)
    covariances = inside.covariances(part.mean(), part)[0]
    np.testing.assert_allclose(covariances, RESTRICTED["cov_C_L_losses"], rtol=1e-9)
    restricted = -(covariances - covariances.mean())
    np.testing.assert_allclose(restricted, RESTRICTED["chi_restricted"], rtol=1e-9)
    relative = [values - values.mean() for values in (full.means(losses), inside.means(part))]
    mixed = restricted + phi * (relative[0] - relative[1])
    np.testing.assert_allclose(mixed, RESTRICTED["chi_mixed"], rtol=1e-9)
    assert np.sign(mixed[2]) != np.sign(restricted[2])
    whole = full.covariances(losses.mean(), losses)[0]
    np.testing.assert_allclose(-(whole - whole.mean()), RESTRICTED["chi_full"], rtol=1e-9)
    # Z without the Gaussian's normalisation: two more directions of (2π/γ)^½ each.
    ratio = np.exp(free_inside - free_full) * 2 * np.pi / gamma
    assert ratio == close(RESTRICTED["Z_full_over_Z_C"], rel=1e-10)


@pytest.mark.parametrize("row", REFERENCE["anharmonic_1d"]["rows"], ids=lambda row: f"t={row['t']:g}")
def test_anharmonic_oscillator(row):
    case, t = REFERENCE["anharmonic_1d"], row["t"]
    x = np.linspace(-12, 12, 4001) / np.sqrt(t)
    energy = case["lam"] / 2 * x**2 + case["al"] / 6 * x**3 + case["ga"] / 24 * x**4
    posterior = grid_posterior(-t * energy, np.log(x[1] - x[0]))
    mean, kappa = posterior.mean(x), posterior.mean((x - posterior.mean(x)) ** 3)
    found = {
        "mean_x": mean, "var_x": posterior.covariance(x, x), "cov_x2_x": posterior.covariance(x**2, x),
        "t2_cov_x2_x": t**2 * posterior.covariance(x**2, x), "kappa3": kappa, "t2_kappa3": t**2 * kappa,
        "cov_x_U": posterior.covariance(x, energy), "t_cov_x_U": t * posterior.covariance(x, energy),
        "llc": t * posterior.mean(energy), "t2_var_U": t**2 * posterior.covariance(energy, energy),
        "logZ": posterior.log_normaliser,
    }  # fmt: skip
    assert {"t", *found} == set(row)
    for name, value in found.items():
        assert value == close(row[name], rel=1e-9), name


def test_anharmonic_limits():
    case, last = REFERENCE["anharmonic_1d"], REFERENCE["anharmonic_1d"]["rows"][-1]
    lam, al = case["lam"], case["al"]
    leading = {"t2_cov_x2_x": -2 * al / lam**3, "t2_kappa3": -al / lam**3, "t_mean_x": -al / (2 * lam**2)}
    leading |= {"llc": 0.5, "t2_var_U": 0.5}
    for name, value in case["limits"].items():
        assert value == close(leading[name], rel=1e-12)
        at_large_t = last["t"] * last["mean_x"] if name == "t_mean_x" else last[name]
        assert at_large_t == close(value, rel=1e-3)


@pytest.mark.parametrize("case", CROSSINGS, ids=lambda case: f"{case['a']}-{case['b']}")
def test_normal_crossings(case):
    for row in case["rows"]:
        nbeta = row["nbeta"]
        found = normal_crossing_posterior(case["a"], case["b"], nbeta, case["gamma"])
        assert found.free_energy == close(row["F"], rel=1e-10)
        assert nbeta * found.mean_loss == close(row["nbeta_mean_L"], rel=1e-10)
        assert nbeta**2 * found.variance_loss == close(row["nbeta2_var_L"], rel=1e-10)
        assert found.mean_square == close(row["mean_w1_sq"], rel=1e-10)
        assert nbeta * found.covariance_square_loss == close(row["nbeta_cov_w1sq_L"], rel=1e-10)
    assert normal_crossing_posterior(case["a"], case["b"], 0.001).free_energy == close(case["F_at_0p001"], rel=1e-10)


@pytest.mark.parametrize("case", CROSSINGS, ids=lambda case: f"{case['a']}-{case['b']}")
def test_integration_over_log_nbeta(case):
    """The rule that `free_energy` uses, on exact means and variances; 9 nodes over seven decades are right to 3e-5."""
    for count, expected in case["TI_to_10000_log_grid_from_0p001"].items():
        nbeta = np.geomspace(1e-3, 1e4, int(count))
        found = [normal_crossing_posterior(case["a"], case["b"], value) for value in nbeta]
        energy = nbeta * [one.mean_loss for one in found]
        slope = energy - nbeta**2 * [one.variance_loss for one in found]
        trapezoid, ends = integration_weights(nbeta)
        first, plain = found[0].free_energy, trapezoid[-1] @ energy
        assert first + plain == close(expected["trapezoid"], rel=1e-9)
        assert first + plain + ends[-1] @ slope == close(expected["trapezoid_end_corrected"], rel=1e-9)
        simpson = np.log(nbeta[1] / nbeta[0]) / 3 * (energy @ _simpson(len(nbeta)))
        assert first + simpson == close(expected["simpson"], rel=1e-9)
        assert energy[0] + simpson == close(expected["simpson_with_naive_tail"], rel=1e-9)
    exact = case["rows"][-1]["F"]
    errors = {
        n: abs(rows["trapezoid_end_corrected"] - exact) for n, rows in case["TI_to_10000_log_grid_from_0p001"].items()
    }
    assert errors["9"] < 4e-5


def _simpson(count):
    return np.array([1, *[4, 2] * (count // 2 - 1), 4, 1])


def test_integration_rule_is_exact_for_cubics_of_the_logarithm():
    nbeta = np.array([0.1, 0.7, 1.0, 30.0])
    s = np.log(nbeta)
    trapezoid, ends = integration_weights(nbeta)
    np.testing.assert_allclose(trapezoid @ s**3 + ends @ (3 * s**2), s**4 / 4 - s[0] ** 4 / 4, rtol=1e-12)


@pytest.mark.parametrize(
    "row", REFERENCE["regular_gaussian_location"]["rows"], ids=lambda row: f"beta={row['beta']:.2g}"
)
def test_regular_gaussian_location(row):
    """Losses ½|x_i - w|² of data with a given scatter, through `Quadratics`; the flat prior as γ of rounding size."""
    case = REFERENCE["regular_gaussian_location"]
    d, n, nbeta = case["d"], case["n"], row["nbeta"]
    # Σ|x_i - x̄|² has mean (n - 1)·d; x̄ = (1, 0, 0)·√(d/n) has the mean square of an average of n.
    x = np.random.default_rng(0).normal(size=(n, d))
    x -= x.mean(axis=0)
    x *= np.sqrt((n - 1) * d / np.sum(x**2))
    x[:, 0] += np.sqrt(d / n)
    losses = Quadratics(np.broadcast_to(np.eye(d), (n, d, d)), -x, 0.5 * np.sum(x**2, axis=1) + d * HALF_LOG)
    posterior, _ = local_gaussian(losses, x.mean(axis=0), nbeta, 1e-9)
    functional_variance = np.diag(posterior.covariances(losses, losses)).sum()
    assert functional_variance == close(row["E_V_n"], rel=1e-8)
    assert row["beta"] * functional_variance / 2 == close(row["E_nu"], rel=1e-8)
    mean_loss = posterior.means(losses).mean()
    assert nbeta * (mean_loss - losses.at(x.mean(axis=0)).mean()) == close(row["llc_at_mle"], rel=1e-8)
    excess = nbeta * (mean_loss - losses.at(np.zeros(d)).mean())
    assert excess == close(row["E_nbeta_excess_over_truth"], abs=1e-7)


@pytest.mark.parametrize(
    "row", REFERENCE["singular_squared_unit"]["finite_n"], ids=lambda row: f"k={row['k']} n={row['n']:g}"
)
def test_squared_unit_at_finite_n(row):
    found = squared_unit(row["k"], row["n"], row["beta"], row["gamma"])
    # n times differences of size 1/n of numbers of size 1: rounding is n·1e-15 there.
    tolerance = 1e-10 + 1e-14 * row["n"]
    assert found.gibbs_excess == close(row["E_nbeta_excess_over_truth"], abs=tolerance)
    assert found.singular_fluctuation == close(row["E_nu"], abs=tolerance)
    assert found.functional_variance == close(row["E_V_n"], abs=tolerance)
    assert found.gibbs_excess + row["beta"] * found.singular_fluctuation == close(row["lam_eff"], abs=tolerance)
    assert found.generalization_excess == close(row["n_E_G_excess"], abs=tolerance)
    assert found.training_excess == close(row["n_E_T_excess"], abs=tolerance)
    assert found.waic_excess == close(row["n_E_WAIC_excess"], abs=tolerance)


@pytest.mark.parametrize("row", REFERENCE["singular_squared_unit"]["limit"], ids=str)
def test_squared_unit_in_the_limit(row):
    fluctuation, excess = squared_unit_limit(row["k"], row["beta"])
    assert row["lam"] == 1 / (4 * row["k"])
    assert fluctuation == close(row["nu"], rel=1e-10)
    assert excess == close(row["gibbs_train_excess"], rel=1e-8)
    assert excess == close(row["lam"] - row["beta"] * fluctuation, rel=1e-8)


@pytest.mark.parametrize(
    "row", REFERENCE["singular_squared_unit_data"]["rows"], ids=lambda row: f"beta={row['beta']:.2g}"
)
def test_squared_unit_with_given_data(row):
    case = REFERENCE["singular_squared_unit_data"]
    x, y = np.array(case["x"]), np.array(case["y"])
    w = np.linspace(-4, 4, 8001)
    losses = 0.5 * (y[:, None] - w**2 * x[:, None]) ** 2 + HALF_LOG
    mean_loss = losses.mean(axis=0)
    posterior = grid_posterior(-row["nbeta"] * mean_loss - case["gamma"] * w**2 / 2, 0.0)
    functional_variance = posterior.covariance(losses, losses).sum()
    training = -np.log(posterior.mean(np.exp(-losses))).mean()
    n, beta = len(x), row["beta"]
    found = {
        "mean_L": posterior.mean(mean_loss), "L_at_0": losses[:, 4000].mean(), "V_n": functional_variance,
        "nu": beta * functional_variance / 2, "T_n": training, "waic": training + beta / n * functional_variance,
        "var_L": posterior.covariance(mean_loss, mean_loss), "cov_wsq_l0": posterior.covariance(w**2, losses[0]),
    }  # fmt: skip
    assert {"beta", "nbeta", *found} == set(row)
    for name, value in found.items():
        assert value == close(row[name], rel=1e-9), name


@pytest.mark.parametrize("row", REFERENCE["influence_limit_2d"]["rows"], ids=lambda row: f"nbeta={row['nbeta']:g}")
def test_influence_in_two_dimensions(row):
    case, nbeta = REFERENCE["influence_limit_2d"], row["nbeta"]
    grid = np.linspace(-10, 10, 801) / np.sqrt(nbeta)
    w1, w2 = np.meshgrid(grid, grid, indexing="ij")
    (a, b), (_, d) = case["A"]
    f = 0.5 * (a * w1**2 + 2 * b * w1 * w2 + d * w2**2) + 0.3 * w1**3 - 0.2 * w1 * w2**2 + 0.5 * (w1**4 + w2**4)
    tilt = case["g"][0] * w1 + case["g"][1] * w2
    phi = case["a"][0] * w1 + case["a"][1] * w2 + 0.5 * w1**2
    posterior = grid_posterior(-nbeta * f - row["gamma"] / 2 * (w1**2 + w2**2), 0.0)
    assert posterior.mean(f) == close(row["mean_f"], rel=1e-9)
    assert posterior.covariance(phi, f + tilt) == close(row["cov_phi_l1"], rel=1e-9)
    assert posterior.covariance(phi, f - tilt) == close(row["cov_phi_l2"], rel=1e-9)
    assert nbeta * posterior.covariance(phi, f + tilt) == close(row["nbeta_cov_phi_l1"], rel=1e-9)


def test_influence_tends_to_the_classical_one():
    case = REFERENCE["influence_limit_2d"]
    curvature = np.array(case["A"]) + case["gamma_over_nbeta"] * np.eye(2)
    classical = np.array(case["a"]) @ np.linalg.solve(curvature, case["g"])
    assert classical == close(case["limit_nbeta_cov_phi_l1"], rel=1e-12)
    assert case["rows"][-1]["nbeta_cov_phi_l1"] == close(classical, rel=1e-4)


def test_the_smallest_linear_network_is_a_normal_crossing():
    """L = ½w₁²w₂², so nβ counts half."""
    for nbeta, localization in ((0.0, 1.0), (10.0, 1.0), (1e4, 3.0)):
        network = linear_network_posterior(1, 1, nbeta, localization)
        crossing = normal_crossing_posterior(2, 2, nbeta / 2, localization)
        found = (network.free_energy, network.mean_loss, network.variance_loss)
        assert found == close(
            (crossing.free_energy, crossing.mean_loss / 2, crossing.variance_loss / 4), rel=1e-6, abs=1e-9
        )


def test_a_linear_network_of_two_inputs_and_two_hidden_units_is_an_exponential_integral():
    """Z = ∫ e^(-s/2)/2 / (1 + nβs) ds = x eˣ E₁(x) with x = 1/(2nβ)."""
    for nbeta in (0.1, 10.0, 1e6):
        x = 1 / (2 * nbeta)
        assert linear_network_posterior(2, 2, nbeta).free_energy == close(-np.log(x * np.exp(x) * exp1(x)), rel=1e-8)


@pytest.mark.parametrize(("input_dim", "hidden_dim"), [(3, 2), (2, 3), (2, 2), (1, 4)])
def test_moments_of_a_linear_network_are_derivatives_and_come_to_lambda(input_dim, hidden_dim):
    def energy(nbeta):
        return linear_network_posterior(input_dim, hidden_dim, nbeta).free_energy

    nbeta, step = 20.0, 0.02
    _, mean, variance = linear_network_posterior(input_dim, hidden_dim, nbeta)
    low, middle, high = (energy(nbeta + sign * step) for sign in (-1, 0, 1))
    assert (high - low) / (2 * step) == close(mean, rel=1e-5)
    assert -(high - 2 * middle + low) / step**2 == close(variance, rel=1e-3)
    coefficient, multiplicity = deep_linear_network((input_dim, hidden_dim, 1), 0)
    slope = 1e12 * linear_network_posterior(input_dim, hidden_dim, 1e12).mean_loss
    # λ - (m - 1)/log nβ to leading order
    assert slope == close(float(coefficient) - (multiplicity - 1) / np.log(1e12), abs=2e-3)
