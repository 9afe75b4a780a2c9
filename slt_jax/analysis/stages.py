"""Developmental stages read off an LLC curve: where they begin and end, how sure that is, and what moves in each.

The curve λ(t) is smoothed by a Gaussian process in log time (`smoothing`). Stages meet where the rate dλ/dlog t vanishes (a
maximum or a minimum) or nearly does (a plateau between two rises or two falls); none is set by hand. Every boundary is found
again in draws from the process, given the error bars of the LLC: their spread is its uncertainty, the share of draws that have
it its support.
"""

import itertools
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from slt_jax.analysis.smoothing import SmoothCurve, check_curve, smooth_in_log_time

__all__ = [
    "Boundary",
    "Kind",
    "SmoothCurve",
    "Stage",
    "Stages",
    "critical_points",
    "detect_stages",
    "smooth_in_log_time",
]

Kind: TypeAlias = Literal["maximum", "minimum", "plateau"]


class Boundary(NamedTuple):
    """Where one stage gives way to the next.

    Attributes:
        step: position on the smoothed curve.
        low, high: interval that holds it with probability `level`, given that it is there; training steps.
        kind: "maximum", "minimum" or "plateau".
        support: share of posterior draws that have such a boundary there.

    Example:
        >>> from slt_jax.analysis.stages import Boundary
        >>> Boundary(step=2000.0, low=1800.0, high=2300.0, kind="maximum", support=0.98).kind
        'maximum'
    """

    step: float
    low: float
    high: float
    kind: Kind
    support: float


class Stage(NamedTuple):
    """What moves between two boundaries.

    Attributes:
        start, end: training steps.
        llc_change, llc_change_std_error: of the smoothed curve over the stage; the uncertainty of its ends is in it.
        loss_change, loss_change_std_error: likewise; the error is that of the ends alone.
        type: such as "loss down, LLC up" or "loss flat, LLC down".

    Example:
        >>> from slt_jax.analysis.stages import Stage
        >>> Stage(100.0, 2000.0, 40.0, 1.2, -0.5, 0.01, "loss down, LLC up").type
        'loss down, LLC up'
    """

    start: float
    end: float
    llc_change: float
    llc_change_std_error: float
    loss_change: float
    loss_change_std_error: float
    type: str


@dataclass(frozen=True)
class Stages:
    """The stages of one training run.

    Attributes:
        boundaries: between consecutive stages, in order of time.
        stages: one more than there are boundaries.
        curve: the smoothed LLC.
        candidates: boundaries on the smoothed curve that too few draws supported; not used.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.stages import detect_stages
        >>> steps = np.geomspace(1, 10_000, 25)
        >>> llc = 10 * np.exp(-((np.log(steps) - 5) ** 2))
        >>> found = detect_stages(steps, llc, np.full(25, 0.05), steps, 1 / steps, num_draws=20, num_restarts=0)
        >>> len(found.stages) == len(found.boundaries) + 1
        True
    """

    boundaries: tuple[Boundary, ...]
    stages: tuple[Stage, ...]
    curve: SmoothCurve
    candidates: tuple[Boundary, ...] = ()

    @property
    def edges(self) -> list[float]:
        """Start, boundaries and end, as `shade_stages` wants them."""
        return [self.stages[0].start, *(stage.end for stage in self.stages)]


def detect_stages(
    steps: Float[np.ndarray, " checkpoint"],
    llc: Float[np.ndarray, " checkpoint"],
    llc_std_error: Float[np.ndarray, " checkpoint"] | None,
    loss_steps: Float[np.ndarray, " step"],
    loss: Float[np.ndarray, " step"],
    *,
    min_change: float = 0.02,
    flatness: float = 0.5,
    flat_loss: float = 0.05,
    min_support: float = 0.9,
    level: float = 0.95,
    num_draws: int = 400,
    num_restarts: int = 10,
    seed: int = 0,
) -> Stages:
    """Find and type the stages of a training run.

    Args:
        steps, llc, llc_std_error: LLC at increasing training steps with its standard errors; scatter beyond them is estimated
            and counts as noise too. `None`: all noise is estimated from the scatter.
        loss_steps, loss: loss at increasing training steps that cover `steps`.
        min_change: a stage moves the LLC by at least this share of its range; smaller wiggles are no stages.
        flatness: at a plateau the rate is at most this share of the peak rates on either side.
        flat_loss: a loss that moves by less than this share of its range over a stage is "flat".
        min_support: boundaries found in a smaller share of draws are reported as `candidates` only.
        level: probability of the interval of each boundary.
        num_draws: draws from the Gaussian process.
        num_restarts: of the search for its hyperparameters.
        seed: of the draws and restarts.

    Raises:
        ValueError: if there are fewer than 5 checkpoints, steps do not increase, shapes differ, a value is not finite or an
            error is negative.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.stages import detect_stages
        >>> steps = np.geomspace(1, 10_000, 25)
        >>> llc = 10 * np.exp(-((np.log(steps) - 5) ** 2) / 4)  # rises to step e⁵ = 148, then falls
        >>> found = detect_stages(steps, llc, np.full(25, 0.05), steps, 1 / steps, num_draws=20, num_restarts=0)
        >>> [b.kind for b in found.boundaries if 120 < b.step < 180]
        ['maximum']
    """
    check_curve("llc", steps, llc, minimum=5)
    check_curve("loss", loss_steps, loss, minimum=2)
    curve = smooth_in_log_time(
        steps, llc, llc_std_error, num_draws=num_draws, num_restarts=num_restarts, seed=seed
    )  # fmt: skip
    u = np.log1p(curve.steps)
    found = critical_points(u, curve.mean, min_change=min_change, flatness=flatness)
    in_draws = [critical_points(u, draw, min_change=min_change, flatness=flatness) for draw in curve.draws]
    matched = np.stack([_match(found, points) for points in in_draws]) if found else np.zeros((num_draws, 0))
    boundaries = [_boundary(point, matched[:, i], level) for i, point in enumerate(found)]
    kept = [i for i, boundary in enumerate(boundaries) if boundary.support >= min_support]
    stages = _typed_stages(
        curve, np.asarray([found[i][0] for i in kept]), matched[:, kept], loss_steps, loss, min_change, flat_loss
    )
    rest = tuple(boundary for i, boundary in enumerate(boundaries) if i not in kept)
    return Stages(tuple(boundaries[i] for i in kept), stages, curve, rest)


def critical_points(
    u: Float[np.ndarray, " grid"],
    values: Float[np.ndarray, " grid"],
    *,
    min_change: float = 0.02,
    flatness: float = 0.5,
) -> list[tuple[float, Kind]]:
    """Extrema and plateaus of a smooth curve on a fine grid, as (position in u, kind) in order.

    Extrema are simplified by persistence: the two ends of the smallest reversal are dropped until every stage moves the
    curve by `min_change` of its range.

    Args:
        u: increasing grid.
        values: the curve.
        min_change, flatness: as in `detect_stages`.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.stages import critical_points
        >>> u = np.linspace(0.0, 6.0, 601)
        >>> [(round(position, 2), kind) for position, kind in critical_points(u, np.sin(u))]
        [(1.57, 'maximum'), (4.71, 'minimum')]
    """
    least = min_change * np.ptp(values)
    rate = np.gradient(values, u)
    if least == 0:
        return []
    edges = _persistent_edges(values, least)
    points: list[tuple[float, Kind]] = []
    for left, right in itertools.pairwise(edges):
        rising = values[right] > values[left]
        if left > 0:
            points.append((_vertex(u, values, left), "minimum" if rising else "maximum"))
        speed = np.clip(rate[left : right + 1] if rising else -rate[left : right + 1], 0, None)
        valleys = left + np.asarray(_valleys(speed, flatness), int)
        points += [(float(u[valley]), "plateau") for valley in _moving(values, left, valleys, right, least)]
    return points


def _vertex(u: np.ndarray, values: np.ndarray, index: int) -> float:
    """Position of the extremum of the parabola through three neighbouring points of an even grid."""
    if not 0 < index < len(u) - 1:
        return float(u[index])
    before, at, after = values[index - 1 : index + 2]
    bend = before - 2 * at + after
    shift = 0.0 if bend == 0 else np.clip((before - after) / (2 * bend), -0.5, 0.5)
    return float(u[index] + shift * (u[index + 1] - u[index]))


def _persistent_edges(values: np.ndarray, least: float) -> list[int]:
    """Indices of the ends of the curve and of the extrema that survive."""
    inner = values[1:-1]
    turns = 1 + np.flatnonzero((inner - values[:-2]) * (values[2:] - inner) < 0)
    edges = [0, *turns.tolist(), len(values) - 1]
    while len(edges) > 2:
        moves = np.abs(np.diff(values[edges]))
        smallest = int(moves.argmin())
        if moves[smallest] >= least:
            break
        if smallest == 0:
            del edges[1]  # a flat beginning belongs to what follows
        elif smallest == len(moves) - 1:
            del edges[-2]
        else:
            del edges[smallest : smallest + 2]
    return edges


def _valleys(speed: np.ndarray, flatness: float) -> list[int]:
    """Minima of `speed` that are at most `flatness` times the peaks on either side, deepest separations kept."""
    tiny = np.finfo(float).tiny  # a peak of speed zero is no peak: its ratio is 0/tiny and its stage moves nothing
    padded = np.concatenate([[-1.0], speed, [-1.0]])
    peaks = (np.flatnonzero((padded[1:-1] > padded[:-2]) & (padded[1:-1] >= padded[2:]))).tolist()
    valleys = [left + int(speed[left : right + 1].argmin()) for left, right in itertools.pairwise(peaks)]
    while valleys:
        ratios = [speed[v] / max(min(speed[peaks[i]], speed[peaks[i + 1]]), tiny) for i, v in enumerate(valleys)]
        worst = int(np.argmax(ratios))
        if ratios[worst] <= flatness:
            break
        del peaks[worst if speed[peaks[worst]] < speed[peaks[worst + 1]] else worst + 1]
        valleys = [left + int(speed[left : right + 1].argmin()) for left, right in itertools.pairwise(peaks)]
    return valleys


def _moving(values: np.ndarray, left: int, valleys: np.ndarray, right: int, least: float) -> list[int]:
    """The valleys between which, and between which and the ends, the curve moves by `least`."""
    kept: list[int] = []
    previous = left
    for valley in valleys.tolist():
        enough = abs(values[valley] - values[previous]) >= least
        if enough and abs(values[right] - values[valley]) >= least:
            kept.append(valley)
            previous = valley
    return kept


def _match(found: list[tuple[float, Kind]], points: list[tuple[float, Kind]]) -> np.ndarray:
    """For each boundary in `found`, the nearest one of its kind in a draw between its neighbours; NaN if there is none."""
    matched = np.full(len(found), np.nan)
    limits = [-np.inf, *(at for at, _ in found), np.inf]
    for i, (position, kind) in enumerate(found):
        candidates = [at for at, other in points if other == kind and limits[i] < at < limits[i + 2]]
        if candidates:
            matched[i] = min(candidates, key=lambda at: abs(at - position))
    return matched


def _boundary(point: tuple[float, Kind], matched: np.ndarray, level: float) -> Boundary:
    position, kind = point
    present = matched[~np.isnan(matched)]
    tails = (1 - level) / 2
    low, high = np.quantile(present, [tails, 1 - tails]) if present.size else (position, position)
    return Boundary(
        float(np.expm1(position)), float(np.expm1(low)), float(np.expm1(high)), kind, present.size / matched.size
    )


def _typed_stages(
    curve: SmoothCurve,
    positions: np.ndarray,
    matched: np.ndarray,
    loss_steps: np.ndarray,
    loss: np.ndarray,
    min_change: float,
    flat_loss: float,
) -> tuple[Stage, ...]:
    """Changes of LLC and loss between the boundaries, with errors over the draws that have both ends."""
    u = np.log1p(curve.steps)
    ends = np.concatenate([u[:1], positions, u[-1:]])
    fixed = np.broadcast_to(u[[0, -1]], (len(matched), 2))
    draw_ends = np.concatenate([fixed[:, :1], matched, fixed[:, 1:]], axis=1)
    loss_u = np.log1p(loss_steps)
    llc_at = np.interp(ends, u, curve.mean)
    loss_at = np.interp(ends, loss_u, loss)
    draw_llc = np.stack([np.interp(at, u, draw) for at, draw in zip(draw_ends, curve.draws, strict=True)])
    draw_loss = np.interp(draw_ends, loss_u, loss)
    stages = []
    for i in range(len(ends) - 1):
        complete = ~np.isnan(draw_ends[:, i : i + 2]).any(axis=1)
        moved = np.diff(draw_llc[complete, i : i + 2])
        llc_error, loss_error = _spread(moved), _spread(np.diff(draw_loss[complete, i : i + 2]))
        llc_change, loss_change = float(llc_at[i + 1] - llc_at[i]), float(loss_at[i + 1] - loss_at[i])
        llc_least = max(2 * llc_error, min_change * np.ptp(curve.mean))
        kind = f"loss {_direction(loss_change, flat_loss * np.ptp(loss))}, LLC {_direction(llc_change, llc_least)}"
        start, end = np.expm1(ends[i]), np.expm1(ends[i + 1])
        stages.append(Stage(float(start), float(end), llc_change, llc_error, loss_change, loss_error, kind))
    return tuple(stages)


def _spread(values: np.ndarray) -> float:
    """Half the central 68% range: a standard error that a few draws with an end elsewhere do not rule."""
    if not values.size:
        return float("nan")
    low, high = np.quantile(values, [0.16, 0.84])
    return float(high - low) / 2


def _direction(change: float, least: float) -> str:
    return "flat" if abs(change) < least else "up" if change > 0 else "down"
