"""The closed forms against published values and against derivations that share no code with them."""

import json
from fractions import Fraction
from itertools import product
from math import exp, log
from pathlib import Path

import numpy as np
import pytest

from slt_jax import theory
from slt_jax.theory import LearningCoefficient

KNOWN = json.loads((Path(__file__).parent / "data" / "learning_coefficients.json").read_text())


def exact(entry):
    return LearningCoefficient(Fraction(entry["learning_coefficient"]), entry["multiplicity"])


@pytest.mark.parametrize("entry", KNOWN["deep_linear_network"], ids=lambda e: f"{e['widths']}-{e['rank']}")
def test_deep_linear_network_reproduces_known_values(entry):
    assert theory.deep_linear_network(entry["widths"], entry["rank"]) == exact(entry)


@pytest.mark.parametrize("entry", KNOWN["normal_crossing"], ids=lambda e: str(e["exponents"]))
def test_normal_crossing_reproduces_known_values(entry):
    assert theory.normal_crossing(entry["exponents"], entry["prior_exponents"]) == exact(entry)


@pytest.mark.parametrize("entry", KNOWN["tanh_network_zero_truth"], ids=lambda e: str(e["hidden_units"]))
def test_tanh_network_reproduces_known_values(entry):
    assert theory.tanh_network_zero_truth(entry["hidden_units"]) == exact(entry)


@pytest.mark.parametrize("case", KNOWN["quadratic_sgld"]["cases"], ids=str)
def test_quadratic_sgld_reproduces_known_values(case):
    known = KNOWN["quadratic_sgld"]
    settings = {name: case[name] for name in ("localization", "step_size")}
    value = theory.quadratic_sgld_llc(known["hessian_diagonal"], known["nbeta"], **settings)
    assert round(value, 4) == case["llc"]


def mean_loss_of_a_product(nbeta):
    """nβ E[K] of K = w1² w2², uniform on [-1, 1]²: u = w1 w2 has the density -log u on (0, 1)."""
    log_u = np.linspace(-40, 0, 200_001)
    loss = nbeta * np.exp(2 * log_u)
    weight = np.exp(-loss) * -log_u * np.exp(log_u)
    return float(np.sum(loss * weight) / np.sum(weight))


def test_multiplicity_correction_leads_the_exact_bias():
    known = KNOWN["multiplicity_bias"]
    coefficient = theory.normal_crossing([1, 1])
    assert coefficient == exact(known)
    remainders = []
    for text, value in known["expected_nbeta_times_mean_loss"].items():
        nbeta = float(text)
        assert round(mean_loss_of_a_product(nbeta), 4) == value
        remainders.append((value - theory.finite_nbeta_llc(coefficient, nbeta)) * log(nbeta) ** 2)
    # What is left is of order 1/log²: its coefficient settles instead of growing like log.
    assert max(remainders) < 1.35 * min(remainders)


def test_reduced_rank_regression_is_the_linear_network_of_two_layers():
    sizes = range(1, 9)
    for m, h, n in product(sizes, sizes, sizes):
        for r in range(min(m, h, n) + 1):
            assert theory.reduced_rank_regression(m, h, n, r) == theory.deep_linear_network([m, h, n], r)


@pytest.mark.parametrize(
    ("sizes", "rank", "expected"),
    [
        ((3, 3, 3), 1, (Fraction(4), 1)),  # case 1, even: B = 32
        ((3, 3, 3), 0, (Fraction(7, 2), 2)),  # case 1, odd: B = 27
        ((2, 3, 7), 0, (Fraction(3), 1)),  # case 2
        ((7, 3, 2), 0, (Fraction(3), 1)),  # case 3
        ((2, 9, 3), 1, (Fraction(3), 1)),  # case 4
    ],
)
def test_each_case_of_reduced_rank_regression(sizes, rank, expected):
    assert theory.reduced_rank_regression(*sizes, rank) == expected


def test_one_layer_is_regular():
    for inputs, outputs, rank in [(3, 4, 0), (3, 4, 2), (5, 5, 5)]:
        assert theory.deep_linear_network([inputs, outputs], rank) == theory.regular(inputs * outputs)


def test_deep_linear_network_does_not_depend_on_the_order_of_hidden_widths():
    # Lehalleur & Rimányi 2024; with rank 0 the outer widths may be permuted too.
    assert theory.deep_linear_network([5, 3, 8, 4, 6], 2) == theory.deep_linear_network([5, 4, 3, 8, 6], 2)
    assert theory.deep_linear_network([5, 3, 8, 4, 6], 0) == theory.deep_linear_network([8, 6, 5, 4, 3], 0)


def volume_exponents(exponents, prior_exponents, depth):
    """-d log V / dT of V(T) = P(-log K > T), K = ∏ w^(2k) under a prior ∏ w^h on the unit cube.

    -log K is a sum of independent exponential variables of rate (h+1)/(2k): V comes from the powers of the
    generator of that chain of phases, by uniformisation.
    """
    rates = np.array([(h + 1) / (2 * k) for k, h in zip(exponents, prior_exponents, strict=True) if k])
    top = rates.max()
    jump = np.diag(1 - rates / top) + np.diag(rates[:-1] / top, 1)

    def log_volume(t):
        steps = int(top * t + 12 * np.sqrt(top * t)) + 30
        state, total, weight = np.eye(len(rates))[0], 0.0, exp(-top * t)
        for k in range(steps):
            total += weight * state.sum()
            state, weight = state @ jump, weight * top * t / (k + 1)
        return log(total)

    return log_volume(depth) - log_volume(depth + 1)


@pytest.mark.parametrize(
    ("exponents", "prior"),
    [([1, 1], [0, 0]), ([1, 2], [0, 0]), ([1, 1, 1], [0, 0, 0]), ([2, 3], [0, 1]), ([3, 0, 2], [2, 0, 1])],
)
def test_normal_crossing_agrees_with_the_shrinking_volume(exponents, prior):
    coefficient = theory.normal_crossing(exponents, prior)
    depth = 400.0
    predicted = float(coefficient.learning_coefficient) - (coefficient.multiplicity - 1) / depth
    assert volume_exponents(exponents, prior, depth) == pytest.approx(predicted, abs=1e-4)


def test_tanh_value_is_the_least_over_weighted_blow_ups():
    for h in range(1, 60):
        candidates = [Fraction(h + i * i + i, 4 * i + 2) for i in range(h + 1)]
        least = min(candidates)
        assert theory.tanh_network_zero_truth(h) == (least, candidates.count(least))


def test_simple_models_and_sums():
    assert theory.regular(5) == (Fraction(5, 2), 1)
    assert theory.constant_rank(3) == (Fraction(3, 2), 1)
    assert theory.relu_unit_zero_truth() == (Fraction(1, 2), 2)
    assert theory.relu_unit_zero_truth(2) == (Fraction(1, 2), 1)
    parts = [theory.normal_crossing([1, 1]), theory.normal_crossing([2, 2, 2]), theory.regular(2)]
    assert theory.sum_of_separate_variables(*parts) == (Fraction(1, 2) + Fraction(1, 4) + 1, 4)


def test_sum_agrees_with_the_convolution_of_volumes():
    # w1²w2² + v1²v2²: the poles of order 2 at -1/2 of both Mellin transforms multiply to order 3 at -1.
    # E[exp(-nβ K)] factorises, and each factor is I(nβ) = ∫ e^(-nβu²)(-log u) du.
    log_u = np.linspace(-60, 0, 400_001)

    def free_energy(nbeta):
        return -log(np.sum(np.exp(-nbeta * np.exp(2 * log_u)) * -log_u * np.exp(log_u)))

    coefficient = theory.sum_of_separate_variables(*[theory.normal_crossing([1, 1])] * 2)
    slope = 2 * (free_energy(1e20 * exp(0.01)) - free_energy(1e20)) / 0.01
    assert slope == pytest.approx(theory.finite_nbeta_llc(coefficient, 1e20), abs=2e-3)


def test_quadratic_sgld_is_the_stationary_variance_of_the_recursion():
    h, nbeta, gamma, eps = np.array([2.0, 0.3, 0.0]), 50.0, 4.0, 0.01
    variance = np.zeros(3)
    for _ in range(5000):  # w ← (1 - εa/2) w + √ε noise
        variance = (1 - eps * (nbeta * h + gamma) / 2) ** 2 * variance + eps
    expected = 0.5 * nbeta * np.sum(h * variance)
    assert theory.quadratic_sgld_llc(h, nbeta, gamma, eps) == pytest.approx(expected, rel=1e-12)


def test_a_flat_direction_without_localization_adds_nothing():
    assert theory.quadratic_sgld_llc([1.0, 0.0], 100.0, 0.0, 0.0) == 0.5


BAD_CALLS = [
    (lambda: theory.regular(-1), "dimension"),
    (lambda: theory.constant_rank(-2), "rank"),
    (lambda: theory.normal_crossing([]), "exponents"),
    (lambda: theory.normal_crossing([0, 0]), "exponents"),
    (lambda: theory.normal_crossing([1, -1]), "exponents"),
    (lambda: theory.normal_crossing([1, 1], [0]), "prior_exponents"),
    (lambda: theory.normal_crossing([1, 1], [0, -1]), "prior_exponents"),
    (lambda: theory.sum_of_separate_variables(), "coefficients"),
    (lambda: theory.reduced_rank_regression(3, 2, 3, 3), "rank"),
    (lambda: theory.reduced_rank_regression(3, 0, 3, 0), "hidden_dim"),
    (lambda: theory.reduced_rank_regression(-3, 1, 3, 0), "input_dim"),
    (lambda: theory.reduced_rank_regression(3, 1, 0, 0), "output_dim"),
    (lambda: theory.deep_linear_network([], 0), "widths"),
    (lambda: theory.deep_linear_network([3], 0), "widths"),
    (lambda: theory.deep_linear_network([3, 0, 3], 0), "widths"),
    (lambda: theory.deep_linear_network([3, 2, 3], 3), "rank"),
    (lambda: theory.deep_linear_network([3, 2, 3], -1), "rank"),
    (lambda: theory.tanh_network_zero_truth(0), "hidden_units"),
    (lambda: theory.relu_unit_zero_truth(0), "input_dim"),
    (lambda: theory.quadratic_sgld_llc([], 1.0, 1.0, 0.0), "hessian_diagonal"),
    (lambda: theory.quadratic_sgld_llc([-1.0], 1.0, 1.0, 0.0), "hessian_diagonal"),
    (lambda: theory.quadratic_sgld_llc([1.0], 0.0, 1.0, 0.0), "nbeta"),
    (lambda: theory.quadratic_sgld_llc([1.0], 1.0, -1.0, 0.0), "localization"),
    (lambda: theory.quadratic_sgld_llc([1.0], 1.0, 1.0, -0.1), "step_size"),
    (lambda: theory.quadratic_sgld_llc([1.0, 0.0], 3.0, 1.0, 1.0), "step_size"),
    (lambda: theory.finite_nbeta_llc(theory.regular(1), 1.0), "nbeta"),
]


@pytest.mark.parametrize(("call", "argument"), BAD_CALLS, ids=range(len(BAD_CALLS)))
def test_bad_input_is_refused_by_name(call, argument):
    with pytest.raises(ValueError, match=argument) as caught:
        call()
    assert str(caught.value).startswith(argument)
