"""Stage detection: known boundaries lie in their stated intervals, flat curves have none, noise makes none."""

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from slt_jax.analysis.smoothing import smooth_in_log_time
from slt_jax.analysis.stages import critical_points, detect_stages

STEPS = np.unique(np.geomspace(10, 500_000, 45).astype(int)).astype(float)
NOISE = 2.0


def logistic(u: np.ndarray, center: float, width: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(u - center) / width))


def developing_llc(u: np.ndarray) -> np.ndarray:
    """Rise, plateau, rise, maximum, fall, minimum, small rise: the shape of arXiv 2402.02364, figure 1."""
    first, second = 25 * logistic(u, 5.0, 0.35), 145 * logistic(u, 8.3, 0.4)
    return first + second - 50 * logistic(u, 10.8, 0.25) + 15 * logistic(u, 12.5, 0.25)


def developing_loss(u: np.ndarray) -> np.ndarray:
    return 4.4 - 0.3 * logistic(u, 5.0, 0.35) - 2.2 * logistic(u, 8.3, 0.4) - 0.03 * logistic(u, 10.8, 0.25)


def rate(u: float) -> float:
    return float(developing_llc(np.asarray(u + 1e-5)) - developing_llc(np.asarray(u - 1e-5))) / 2e-5


def true_boundaries() -> dict[str, float]:
    """Plateau, maximum and minimum of `developing_llc`, as steps, from its own derivative."""
    plateau = minimize_scalar(rate, bounds=(5.5, 7.5), method="bounded").x
    return {
        "plateau": np.expm1(plateau),
        "maximum": np.expm1(brentq(rate, 9.0, 10.5)),
        "minimum": np.expm1(brentq(rate, 11.0, 12.3)),
    }


def noisy_stages(draw: int):
    rng = np.random.default_rng(draw)
    u = np.log1p(STEPS)
    llc = developing_llc(u) + NOISE * rng.standard_normal(len(u))
    return detect_stages(
        STEPS, llc, np.full(len(u), NOISE), STEPS, developing_loss(u), num_draws=200, num_restarts=1, seed=draw
    )


def covered(num_draws: int) -> dict[str, np.ndarray]:
    """For each true boundary: per draw, 1 if an interval of its kind holds it, 0 if not (missed ones included)."""
    truth = true_boundaries()
    hits: dict[str, list[bool]] = {kind: [] for kind in truth}
    for draw in range(num_draws):
        found = noisy_stages(draw).boundaries
        for kind, step in truth.items():
            hits[kind].append(any(b.kind == kind and b.low <= step <= b.high for b in found))
    return {kind: np.asarray(values) for kind, values in hits.items()}


@pytest.mark.slow
def test_boundaries_lie_in_their_intervals_in_200_draws():
    for kind, hits in covered(200).items():
        assert hits.mean() >= 0.90, f"{kind}: {hits.mean():.3f}"


def test_boundaries_lie_in_their_intervals():
    # 20 draws of a 95% interval: 16 or more covered with probability above 0.997 each
    for kind, hits in covered(20).items():
        assert hits.sum() >= 16, f"{kind}: {hits.mean():.2f}"


def test_stages_are_typed():
    stages = noisy_stages(3)
    assert [boundary.kind for boundary in stages.boundaries] == ["plateau", "maximum", "minimum"]
    assert [stage.type for stage in stages.stages] == [
        "loss down, LLC up", "loss down, LLC up", "loss flat, LLC down", "loss flat, LLC up",
    ]  # fmt: skip
    assert stages.edges[0] == pytest.approx(STEPS[0])
    assert stages.edges[-1] == pytest.approx(STEPS[-1])
    assert all(boundary.support > 0.9 for boundary in stages.boundaries)
    fall = stages.stages[2]
    exact = np.diff(developing_llc(np.log1p([true_boundaries()["maximum"], true_boundaries()["minimum"]])))[0]
    assert abs(fall.llc_change - exact) < 3 * fall.llc_change_std_error


def test_larger_error_bars_widen_the_intervals():
    u = np.log1p(STEPS)
    widths = []
    for noise in (1.0, 6.0):
        stages = detect_stages(
            STEPS, developing_llc(u), np.full(len(u), noise), STEPS, developing_loss(u), num_draws=200, num_restarts=1
        )
        (maximum,) = [b for b in stages.boundaries if b.kind == "maximum"]
        widths.append(np.log(maximum.high / maximum.low))
    assert widths[1] > 1.5 * widths[0]


def test_noise_around_a_steady_rise_makes_no_boundary():
    u = np.log1p(STEPS)
    spurious = 0
    for draw in range(10):
        llc = 10 * u + NOISE * np.random.default_rng(draw).standard_normal(len(u))
        stages = detect_stages(
            STEPS, llc, np.full(len(u), NOISE), STEPS, 5 - 0.1 * u, num_draws=100, num_restarts=1, seed=draw
        )
        spurious += len(stages.boundaries)
    assert spurious <= 1


def test_critical_points_of_a_curve_without_noise():
    u = np.linspace(0, 2 * np.pi, 2001)
    found = critical_points(u, np.sin(u))
    assert [kind for _, kind in found] == ["maximum", "minimum"]
    np.testing.assert_allclose([at for at, _ in found], [np.pi / 2, 3 * np.pi / 2], atol=1e-5)
    plateaus = critical_points(u, u + np.sin(2 * u) / 2)  # rate 1 + cos 2u
    assert [kind for _, kind in plateaus] == ["plateau", "plateau"]
    np.testing.assert_allclose([at for at, _ in plateaus], [np.pi / 2, 3 * np.pi / 2], atol=5e-3)
    assert critical_points(u, u) == []
    assert critical_points(u, np.ones_like(u)) == []
    # A reversal below `min_change` of the range is a plateau, not a maximum and a minimum.
    wiggles = critical_points(u, u + 0.12 * np.sin(12 * u), min_change=0.1)
    assert {kind for _, kind in wiggles} == {"plateau"}


def test_smoothing_returns_the_curve_between_checkpoints():
    u = np.log1p(STEPS)
    curve = smooth_in_log_time(STEPS, developing_llc(u), np.full(len(u), 0.1), num_draws=50, num_restarts=1)
    exact = developing_llc(np.log1p(curve.steps))
    assert np.abs(curve.mean - exact).max() < 1.0
    assert curve.draws.shape == (50, 400)
    np.testing.assert_allclose(curve.draws.std(axis=0).mean(), curve.std.mean(), rtol=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": STEPS[::-1].copy()}, "increase"),
        ({"llc": np.full(len(STEPS), np.nan)}, "not finite"),
        ({"llc_std_error": -np.ones(len(STEPS))}, "negative"),
    ],
)
def test_bad_input_is_refused(change, message):
    arguments = {
        "steps": STEPS, "llc": STEPS, "llc_std_error": np.ones(len(STEPS)), "loss_steps": STEPS, "loss": STEPS,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        detect_stages(**(arguments | change))


def test_too_few_checkpoints_are_refused():
    few = STEPS[:4]
    with pytest.raises(ValueError, match="at least 5"):
        detect_stages(few, few, None, few, few)
