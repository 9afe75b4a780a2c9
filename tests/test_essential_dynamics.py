"""Essential dynamics on paths whose components, smoothing and circles are known."""

import numpy as np
import pytest

from slt_jax.analysis.essential_dynamics import osculating_circles, principal_trajectory, smooth_path


def path_in_a_plane(num_checkpoints: int = 50, num_features: int = 30):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((num_features, 2)))[0].T
    t = np.linspace(0, 2 * np.pi, num_checkpoints)
    plane = np.stack([5 * np.cos(t / 2), np.sin(t)], axis=1)
    return plane, plane @ basis + rng.standard_normal(num_features)


def test_a_plane_path_is_recovered_up_to_a_rotation():
    plane, outputs = path_in_a_plane()
    found = principal_trajectory(outputs, 2)
    assert found.explained.sum() == pytest.approx(1.0)
    assert found.explained[0] > found.explained[1]
    centred = plane - plane.mean(axis=0)
    np.testing.assert_allclose(np.linalg.norm(found.coordinates, axis=1), np.linalg.norm(centred, axis=1), atol=1e-10)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(2), atol=1e-10)
    assert (found.coordinates[-1] > 0).all()
    np.testing.assert_allclose(found.project(outputs), found.coordinates, atol=1e-10)


def test_runs_share_their_components():
    _, outputs = path_in_a_plane()
    runs = np.stack([outputs, outputs[::-1], 0.5 * outputs])
    found = principal_trajectory(runs, 2)
    assert found.coordinates.shape == (3, 50, 2)
    np.testing.assert_allclose(found.coordinates[0], found.coordinates[1][::-1], atol=1e-10)


def test_osculating_circles_of_a_circle_and_an_ellipse():
    t = np.linspace(0, 2 * np.pi, 4001)
    circle = osculating_circles(np.stack([3 + 2 * np.cos(t), 2 * np.sin(t) - 1], axis=1))
    np.testing.assert_allclose(circle.radii[5:-5], 2, rtol=1e-4)
    np.testing.assert_allclose(circle.centers[5:-5], np.broadcast_to([3.0, -1.0], (3991, 2)), atol=1e-3)
    ellipse = osculating_circles(np.stack([3 * np.cos(t), np.sin(t)], axis=1))
    # Evolute of x = a cos t, y = b sin t: ((a² - b²)/a cos³t, (b² - a²)/b sin³t).
    evolute = np.stack([8 / 3 * np.cos(t) ** 3, -8 * np.sin(t) ** 3], axis=1)
    np.testing.assert_allclose(ellipse.centers[5:-5], evolute[5:-5], atol=1e-2)


def test_a_straight_line_has_infinite_circles():
    straight = osculating_circles(np.stack([np.arange(9.0), np.zeros(9)], axis=1))
    assert np.isinf(straight.radii).all()


def test_smoothing_keeps_lines_and_removes_noise():
    steps = np.unique(np.geomspace(1, 1e5, 80).astype(int)).astype(float)
    u = np.log1p(steps)
    line = np.stack([u, 3 - 2 * u], axis=1)
    at, smooth = smooth_path(steps, line)
    np.testing.assert_allclose(smooth, np.stack([np.log1p(at), 3 - 2 * np.log1p(at)], axis=1), atol=1e-8)
    noisy = line + 0.2 * np.random.default_rng(1).standard_normal(line.shape)
    _, quiet = smooth_path(steps, noisy, width=0.5)
    assert np.abs(quiet - smooth).mean() < 0.08


def test_a_long_gap_between_checkpoints_is_bridged():
    """From step 0 to step 100 there are no checkpoints in reach of the kernel."""
    steps = np.array([0.0, 100, 200, 300, 500, 700, 1000, 2000])
    points = np.random.default_rng(0).normal(size=(8, 2))
    _, path = smooth_path(steps, points)
    assert np.isfinite(path).all()
    assert (path > points.min(axis=0) - 1).all()
    assert (path < points.max(axis=0) + 1).all()


def test_bad_input_is_refused():
    _, outputs = path_in_a_plane(4)
    with pytest.raises(ValueError, match="num_components = 4"):
        principal_trajectory(outputs, 4)
    with pytest.raises(ValueError, match="not finite"):
        principal_trajectory(np.full((5, 3), np.nan), 2)
    with pytest.raises(ValueError, match="increase"):
        smooth_path(np.asarray([2.0, 1.0]), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="width = 0"):
        smooth_path(np.asarray([1.0, 2.0]), np.zeros((2, 2)), width=0.0)
