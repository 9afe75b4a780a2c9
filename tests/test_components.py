"""Components told apart by their curves: clusters that were put there, and rises and falls that are not noise."""

import numpy as np
import pytest

from slt_jax.analysis.components import cluster_curves, rise_then_fall

STEPS = np.linspace(0, 1, 12)


def test_clusters_that_were_put_there_are_found_and_ordered():
    rng = np.random.default_rng(0)
    kinds = np.asarray([2, 0, 1, 0, 2, 1, 0, 2])
    shapes = np.stack([5 + 0 * STEPS, 10 * STEPS + 5, 20 * STEPS + 8])
    curves = shapes[kinds] + 0.3 * rng.normal(size=(8, 12))
    found = cluster_curves(curves)
    np.testing.assert_array_equal(found.labels, kinds)
    assert found.silhouette > 0.7
    assert found.linkage.shape == (7, 4)
    assert set(cluster_curves(curves, 2).labels) == {0, 1}
    permutation = rng.permutation(8)
    np.testing.assert_array_equal(cluster_curves(curves[permutation]).labels, kinds[permutation])


def test_noise_has_a_low_silhouette():
    assert cluster_curves(np.random.default_rng(0).normal(size=(12, 30))).silhouette < 0.25


def test_equal_curves_are_no_error():
    assert cluster_curves(np.ones((4, 5))).silhouette <= 0.0


def test_a_hill_is_found_and_a_slope_is_not():
    hill, slope, valley = 10 * np.sin(np.pi * STEPS), 10 * STEPS, -10 * np.sin(np.pi * STEPS)
    found = rise_then_fall(np.stack([hill, slope, -slope, valley]), np.full((4, 12), 0.5))
    np.testing.assert_array_equal(found.found, [True, False, False, False])
    assert (found.start[0], found.end[0]) == (0, 11)
    assert found.peak[0] in (5, 6)
    assert found.rise[0] == pytest.approx(hill.max(), abs=1e-9)
    assert found.score[0] == pytest.approx(hill.max() / (0.5 * 2**0.5), rel=1e-6)


def test_noise_is_rarely_found():
    """The stated rate holds for curves that only rise, the worst of which is flat for half of the time."""
    rng = np.random.default_rng(0)
    truth = np.minimum(40 * STEPS, 20)
    found = rise_then_fall(truth + rng.normal(size=(4000, 12)), np.ones((4000, 12)))
    assert found.found.mean() < 0.05
    assert not rise_then_fall(rng.normal(size=(300, 12)), np.ones((300, 12))).found.mean() > 0.05


def test_units_do_not_matter():
    rng = np.random.default_rng(1)
    curves, errors = rng.normal(size=(5, 12)), rng.uniform(0.5, 1.5, (5, 12))
    one, other = rise_then_fall(curves, errors), rise_then_fall(1e4 * curves + 7, 1e4 * errors)
    np.testing.assert_allclose(one.score, other.score, rtol=1e-6)
    np.testing.assert_array_equal(one.peak, other.peak)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster_curves(np.ones((2, 5))), "2 components"),
        (lambda: cluster_curves(np.full((4, 5), np.nan)), "not finite"),
        (lambda: cluster_curves(np.ones((4, 5)), 4), "num_clusters = 4; it must be between 2 and 3"),
        (lambda: rise_then_fall(np.ones((2, 2)), np.ones((2, 2))), "2 checkpoints"),
        (lambda: rise_then_fall(np.ones((2, 5)), np.zeros((2, 5))), "positive"),
    ],
)
def test_what_cannot_be_compared(call, message):
    with pytest.raises(ValueError, match=message):
        call()
