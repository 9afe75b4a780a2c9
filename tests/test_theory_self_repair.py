"""Toys of self-repair: their losses are those of the networks they describe, R is what ablations show, λ and finite values are exact."""

import runpy
import sys
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax import theory
from slt_jax.theory.self_repair import (
    LayerNormScale,
    LouderWins,
    OwnKnowledge,
    ParallelCopies,
    ResidualCorrector,
    ThresholdGate,
    VoteOfThree,
    hessian_rank_bounds,
    residual_corrector,
    vote_of_three,
)
from slt_jax.theory.self_repair_values import (
    layer_norm_value,
    plane_product_value,
    product_value,
    quadratic_value,
    vote_value,
)

TOYS = [
    ResidualCorrector(2, 0), ResidualCorrector(3, 2), ResidualCorrector(4, 4), ResidualCorrector(4, 2, left_out=2),
    ResidualCorrector(3, 3, left_out=1), ResidualCorrector(3, 3, strength=0.5), OwnKnowledge(2, 0.3), ParallelCopies(2, 3),
    ThresholdGate(3), LayerNormScale(3, 0.3), LouderWins(3, 2), VoteOfThree(),
]  # fmt: skip
ONE_COLUMN = (ThresholdGate, LayerNormScale)


def inputs(toy, rng, count=400_000):
    dimension = getattr(toy, "dimension", 2)
    if isinstance(toy, ONE_COLUMN):
        signs = rng.choice([-1.0, 1.0], (count, 1))
        return np.sqrt(dimension) * np.eye(dimension)[rng.integers(dimension, size=count)] * signs
    return rng.standard_normal((count, dimension))


def truth(toy, x):
    return x[:, :1] if isinstance(toy, VoteOfThree) else x


@pytest.mark.parametrize("toy", TOYS, ids=repr)
def test_the_loss_is_that_of_the_network(toy):
    rng = np.random.default_rng(0)
    x = inputs(toy, rng)
    np.testing.assert_allclose(toy.output(toy.center, x[:50]), truth(toy, x[:50]), atol=1e-12)
    assert toy.loss(toy.center) == pytest.approx(0.0, abs=1e-30)
    for size in (0.03, 0.3):
        point = toy.center + size * rng.standard_normal(len(toy.center))
        errors = np.sum((toy.output(point, x) - truth(toy, x)) ** 2, axis=1) / 2
        assert abs(toy.loss(point) - errors.mean()) < 5 * errors.std() / np.sqrt(len(errors))


@pytest.mark.parametrize("toy", TOYS, ids=repr)
def test_numpy_and_jax_agree_on_a_loss_and_its_gradient(toy):
    point = toy.center + 0.1 * np.random.default_rng(1).standard_normal((5, len(toy.center)))
    np.testing.assert_allclose(
        jax.vmap(toy.loss)(jnp.asarray(point, jnp.float32)), toy.loss(point), rtol=2e-4, atol=1e-6
    )
    slope = np.asarray(jax.grad(toy.loss)(jnp.asarray(point[0], jnp.float32)))
    steps = 1e-5 * np.eye(len(slope))
    expected = (toy.loss(point[0] + steps) - toy.loss(point[0] - steps)) / 2e-5
    np.testing.assert_allclose(slope, expected, rtol=2e-3, atol=1e-4)
    assert np.isfinite(jax.grad(toy.loss)(jnp.asarray(toy.center, jnp.float32))).all()


def damaged(toy, strength):
    """w* with the first part's contribution scaled by 1 - strength."""
    point = toy.center.copy()
    point[: point.size // (3 if isinstance(toy, VoteOfThree) else getattr(toy, "copies", 2))] *= 1 - strength
    return point


def direct_effect(toy, x, strength):
    """What the first part's damage takes from the output while everything later keeps still, along the truth."""
    share = {ParallelCopies: 1 / getattr(toy, "copies", 1), LayerNormScale: getattr(toy, "share", 1.0)}.get(
        type(toy), 1.0
    )
    written = truth(toy, x)
    if isinstance(toy, ResidualCorrector):
        written = x * (1 - toy.missing[1])
    return -strength * share * np.sum(written * truth(toy, x))


@pytest.mark.parametrize("toy", TOYS, ids=repr)
def test_repair_is_what_an_ablation_shows(toy):
    x = inputs(toy, np.random.default_rng(2), 200_000)
    for strength, claimed in ((1e-3, toy.repair), (0.1, toy.repair), (1.0, toy.full_repair)):
        total = np.sum((toy.output(damaged(toy, strength), x) - truth(toy, x)) * truth(toy, x))
        assert 1 - total / direct_effect(toy, x, strength) == pytest.approx(claimed, abs=0.01)


@pytest.mark.parametrize("dimension", range(1, 8))
def test_the_corrector_agrees_with_the_theorem_on_linear_networks(dimension):
    for repaired in range(dimension + 1):
        for left_out in range(repaired + 1):
            ranks = {(0, 1): left_out, (1, 2): dimension - repaired, (0, 2): 0}
            known = theory.deep_linear_network_local((dimension,) * 3, ranks)
            found = residual_corrector(dimension, repaired, left_out)
            assert found == (known.learning_coefficient, known.multiplicity_bound)


def test_what_the_corrector_gains():
    for dimension in (2, 4, 6):
        square = dimension**2
        for repaired in range(dimension + 1):
            share = Fraction(min(repaired, dimension // 2), dimension)
            assert residual_corrector(dimension, repaired)[0] == Fraction(square, 2) * (1 - share + share**2)
            assert ResidualCorrector(dimension, dimension, strength=0.9).coefficient[0] == Fraction(square, 2)
        half = dimension // 2
        assert (
            residual_corrector(dimension, half, half)
            == residual_corrector(dimension, dimension)
            == (Fraction(3 * square, 8), 1)
        )
        assert ResidualCorrector(dimension, half, half).repair == 0


def hessian_rank(toy):
    hessian = jax.hessian(toy.loss)(jnp.asarray(toy.center, jnp.float32))
    return int(np.sum(np.linalg.eigvalsh(np.asarray(hessian)) > 1e-3))


@pytest.mark.parametrize("toy", [toy for toy in TOYS if not isinstance(toy, VoteOfThree)], ids=repr)
def test_every_coefficient_lies_in_the_bounds_of_the_hessian(toy):
    lower, upper = hessian_rank_bounds(hessian_rank(toy), len(toy.center))
    assert lower <= toy.coefficient.learning_coefficient <= upper


def test_one_dimension_is_known():
    known = theory.linear_network_posterior(1, 1, 1e4, 100.0)
    found = product_value([0.0], [0.0], 1e4, 100.0, draws=2**18)
    assert abs(found.llc - 1e4 * known.mean_loss) < 4 * found.std_error
    assert found.free_energy == pytest.approx(known.free_energy, abs=2e-3)


@pytest.mark.parametrize("repaired", [0, 1, 2])
def test_drawing_one_factor_agrees_with_quadrature(repaired):
    for nbeta, localization in ((1e4, 100.0), (1e3, 30.0)):
        exact = plane_product_value(repaired, nbeta, localization)
        found = product_value([1.0] * (2 - repaired) + [0.0] * repaired, [0.0, 0.0], nbeta, localization, draws=2**19)
        assert abs(found.llc - exact.llc) < 4 * found.std_error + 5e-5 * exact.llc
        assert found.free_energy == pytest.approx(exact.free_energy, abs=3e-3)


@pytest.mark.parametrize("repaired", [0, 1, 2])
def test_the_value_tends_to_lambda(repaired):
    """nβ dF/dnβ = λ - (m - 1)/log nβ + ...; between 1e12 and 1e14 F rises by λ log 100."""
    exact = float(residual_corrector(2, repaired).learning_coefficient)
    values = [plane_product_value(repaired, nbeta, 100.0) for nbeta in (1e12, 1e14)]
    assert values[1].llc == pytest.approx(exact, rel=1e-3)
    assert (values[1].free_energy - values[0].free_energy) / np.log(100) == pytest.approx(exact, rel=1e-3)


def test_dividing_the_labour_either_way_is_the_same():
    """Which of the two factors is integrated and which is drawn must not matter: transposed, the product is the same."""
    one, other = (product_value(*pair, 1e4, 100.0) for pair in (([1.0, 0.0], [0.0, 1.0]), ([0.0, 1.0], [1.0, 0.0])))
    assert abs(one.llc - other.llc) < 4 * np.hypot(one.std_error, other.std_error)
    swapped, plain = (
        product_value([0.0, 0.0], [1.0, 0.0], 1e3, 100.0),
        product_value([1.0, 0.0], [0.0, 0.0], 1e3, 100.0),
    )
    assert abs(swapped.llc - plain.llc) < 4 * np.hypot(swapped.std_error, plain.std_error)
    assert swapped.free_energy == pytest.approx(plain.free_energy, abs=0.05)


def test_layer_norm_by_another_road():
    """Two columns in the plane by plain draws of the localising Gaussian, weighted."""
    toy, nbeta, localization = LayerNormScale(2, 0.5), 300.0, 100.0
    rng = np.random.default_rng(0)
    losses = toy.loss(toy.center + rng.standard_normal((2_000_000, 8)) / np.sqrt(localization))
    weights = np.exp(-nbeta * losses)
    mean = np.average(nbeta * losses, weights=weights)
    error = np.sqrt(np.sum((weights * (nbeta * losses - mean)) ** 2)) / weights.sum()
    found = layer_norm_value(2, nbeta, localization)
    assert abs(found.llc - mean) < 4 * error
    assert found.free_energy == pytest.approx(-np.log(weights.mean()), abs=0.01)


def test_the_vote_by_another_road():
    toy, nbeta, localization = VoteOfThree(), 100.0, 100.0
    losses = toy.loss(toy.center + np.random.default_rng(0).standard_normal((1_000_000, 6)) / np.sqrt(localization))
    weights = np.exp(-nbeta * losses)
    mean = np.average(nbeta * losses, weights=weights)
    error = np.sqrt(np.sum((weights * (nbeta * losses - mean)) ** 2)) / weights.sum()
    found = vote_value(toy, nbeta, localization)
    assert abs(found.llc - mean) < 4 * np.hypot(error, found.std_error)
    assert found.free_energy == pytest.approx(-np.log(weights.mean()), abs=0.005)


def test_the_vote_tends_to_lambda():
    values = [vote_value(VoteOfThree(), nbeta, 1.0) for nbeta in (1e9, 1e11)]
    exact = float(vote_of_three(2).learning_coefficient)
    assert abs(values[1].llc - exact) < 4 * values[1].std_error + 0.005
    assert (values[1].free_energy - values[0].free_energy) / np.log(100) == pytest.approx(exact, abs=0.01)


def test_a_quadratic_is_the_gaussian_value():
    found = LouderWins(3, 2).finite(1e3, 100.0)
    assert found == quadratic_value(np.array([0.5] * 12 + [1.0] * 3), 1e3, 100.0)
    assert found.llc == pytest.approx(0.5 * (12 * 500 / 600 + 3 * 1000 / 1100))


def test_what_is_refused():
    with pytest.raises(ValueError, match="left_out = 3 at most repaired"):
        residual_corrector(4, 2, 3)
    with pytest.raises(ValueError, match="repaired = 5 must be at most dimension = 4"):
        residual_corrector(4, 5)
    with pytest.raises(ValueError, match=r"strength = 0\.5"):
        ResidualCorrector(4, 2, 1, 0.5)
    with pytest.raises(ValueError, match="rank = 3 must be at most parameters = 2"):
        hessian_rank_bounds(3, 2)
    with pytest.raises(ValueError, match="with product 0"):
        product_value([1.0], [1.0], 1.0, 1.0)
    with pytest.raises(ValueError, match="take a smaller nβ, a larger γ"):
        product_value([0.0] * 4, [0.0] * 4, 1e8, 10.0, draws=2**16)
    assert vote_of_three(1) == (Fraction(1, 2), 1)


@pytest.mark.slow
@pytest.mark.parametrize("row", [2, 4, 16, 19, 20])
def test_measured_volume_shrinks_as_claimed(row, monkeypatch):
    scripts = Path(__file__).parents[1] / "scripts"
    monkeypatch.setattr(sys, "path", [str(scripts), *sys.path])
    script = runpy.run_path(str(scripts / "self_repair_volume.py"))
    toy = script["TOYS"][row]
    slope = script["measured_slope"](0, lambda offsets: toy.loss(toy.center + offsets), len(toy.center), 2000, 20)
    assert slope == pytest.approx(float(toy.coefficient.learning_coefficient), rel=0.05)
