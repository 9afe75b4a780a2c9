"""Slopes with others held: exact where there is no noise, intervals that cover, permutations that are uniform under the null."""

import numpy as np
import pytest

from slt_jax.analysis.regression import permutation_share, slope


def test_coefficients_without_noise_are_exact():
    rng = np.random.default_rng(0)
    x, a, b = rng.standard_normal((3, 30))
    x = x + a  # confounded
    group, other = np.repeat(["p", "q", "r"], 10), np.tile([0, 1], 15)
    y = 2.5 * x - 4.0 * a + 0.5 * b + 7.0 * (group == "q") - 3.0 * other
    assert slope(y, x, [a, b], [group, other]).value == pytest.approx(2.5)
    assert slope(y, x, [a, b], [group, other]).partial_correlation == pytest.approx(1.0)
    assert slope(y, x).value != pytest.approx(2.5, abs=0.5)


def test_a_row_that_is_not_finite_is_left_out():
    x, y = np.arange(6.0), 3 * np.arange(6.0)
    y[2], x[4] = np.nan, np.inf
    assert slope(y, x).value == pytest.approx(3.0)
    assert slope(y, x).models == 4


def test_partial_correlation_is_that_of_residuals():
    rng = np.random.default_rng(1)
    x, a, noise = rng.standard_normal((3, 200))
    y = x + 2 * a + noise
    design = np.column_stack([np.ones(200), a])
    left = [column - design @ np.linalg.lstsq(design, column)[0] for column in (x, y)]
    assert slope(y, x, [a]).partial_correlation == pytest.approx(np.corrcoef(*left)[0, 1])


def test_hc3_by_its_formula():
    rng = np.random.default_rng(2)
    x, a = rng.standard_normal((2, 25))
    y = x + np.abs(x) * rng.standard_normal(25)
    design = np.column_stack([x, np.ones(25), a])
    inverse = np.linalg.inv(design.T @ design)
    residual = y - design @ inverse @ design.T @ y
    leverage = np.einsum("ni,ij,nj->n", design, inverse, design)
    covariance = inverse @ (design.T * (residual / (1 - leverage)) ** 2) @ design @ inverse
    assert slope(y, x, [a]).std_error == pytest.approx(np.sqrt(covariance[0, 0]))


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_cover(clustered):
    """Of 400 intervals 95% cover, with unequal variances, and with errors that clusters share."""
    rng, covered = np.random.default_rng(3), 0
    labels = np.repeat(np.arange(30), 6)
    for _ in range(400):
        a = rng.standard_normal(180)
        x = a + rng.standard_normal(180) + clustered * rng.standard_normal(30)[labels]
        noise = rng.standard_normal(180) * (1 + np.abs(x)) if not clustered else rng.standard_normal(180) + rng.standard_normal(30)[labels]  # fmt: skip
        found = slope(1.5 * x - a + noise, x, [a], clusters=labels if clustered else None)
        covered += found.low <= 1.5 <= found.high
    assert abs(covered / 400 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400)


def test_permutations_are_uniform_without_an_effect_and_small_with_one():
    rng = np.random.default_rng(4)
    group = np.repeat([0, 1, 2, 3], 8)
    shares = []
    for _ in range(100):
        a, x, y = rng.standard_normal((3, 32))
        shares.append(permutation_share(rng, y + 2 * a + group, x + a, [a], [group], count=99))
    assert abs(np.mean(shares) - 0.5) < 4 / np.sqrt(12 * 100)
    assert abs(np.mean(np.array(shares) <= 0.1) - 0.1) < 4 * np.sqrt(0.09 / 100)
    assert permutation_share(rng, x + 0.1 * y, x, [a], [group], count=199) == pytest.approx(1 / 200)


def test_what_is_refused():
    with pytest.raises(ValueError, match="too few for 3 coefficients"):
        slope(np.arange(3.0), np.arange(3.0) ** 2, [np.array([1.0, 0.0, 1.0])])
    with pytest.raises(ValueError, match="does not vary"):
        slope(np.arange(8.0), np.repeat([0.0, 1.0], 4), groups=[np.repeat(["p", "q"], 4)])
    with pytest.raises(ValueError, match="takes at least 2"):
        slope(np.arange(5.0), np.arange(5.0) ** 2, clusters=np.zeros(5))
