"""Measure the local learning coefficient of tiny linear networks from how fast volume shrinks.

    python scripts/local_lambda_volume.py            the table of docs/local-lambda.md (minutes on one core)
    python scripts/local_lambda_volume.py --every    one run for each small point whose bounds do not meet

V(t) is the share of the box |w - w*| ≤ 0.2 where K(w) = ‖W_L...W_1 - A‖² ≤ t; it goes like t^λ (-log
t)^(m-1). It is measured down to t = 1e-20 by multilevel splitting: half of the particles survive each
level, are copied, and move by Metropolis steps that leave the uniform law on {K ≤ t} unchanged. The
networks are points where the two bounds of `theory.deep_linear_network_local` do not meet.
"""

import argparse
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from math import log

import numpy as np

from slt_jax import theory

RADIUS = 0.2  # within it no rank of the 0/1 matrices below can drop
FINE, COARSE = 1e-20, 1e-10  # the slope is taken between these values of K

# widths and w* as intervals of layers {(first, last): how many}: basis vectors that are born in one layer and
# die after another
NETWORKS = [
    ((2, 1, 1, 2), {(0, 0): 2, (1, 2): 1, (3, 3): 2}),
    ((3, 1, 1, 2), {(0, 0): 3, (1, 2): 1, (3, 3): 2}),
    ((3, 1, 1, 3), {(0, 0): 3, (1, 2): 1, (3, 3): 3}),
    ((1, 1, 2, 2), {(0, 1): 1, (2, 2): 1, (2, 3): 1, (3, 3): 1}),
    ((1, 1, 2, 2), {(0, 1): 1, (2, 2): 2, (3, 3): 2}),
    ((2, 1, 1, 1, 2), {(0, 0): 2, (1, 3): 1, (4, 4): 2}),
    ((2, 1, 2, 1, 2), {(0, 0): 2, (1, 3): 1, (2, 2): 1, (4, 4): 2}),
    ((2, 2, 1, 1, 2), {(0, 0): 2, (1, 1): 2, (2, 3): 1, (4, 4): 2}),
    ((3, 1, 2, 3), {(0, 0): 3, (1, 2): 1, (2, 3): 1, (3, 3): 2}),
    ((3, 2, 1, 3), {(0, 0): 3, (1, 1): 1, (1, 2): 1, (3, 3): 3}),
    ((3, 2, 2, 3), {(0, 3): 1, (0, 0): 2, (1, 2): 1, (3, 3): 2}),
]


def ranks_of(widths: tuple[int, ...], intervals: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """r_ij: how many basis vectors live from layer i to layer j."""
    layers = range(len(widths))
    return {
        (i, j): sum(count for (a, b), count in intervals.items() if a <= i and j <= b)
        for i in layers
        for j in layers
        if i < j
    }


def squared_error(matrices: list[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """K of shape (particles,) as a function of offsets from w*, shape (particles, parameters)."""
    ends = np.cumsum([0, *(matrix.size for matrix in matrices)])

    def network(offsets: np.ndarray) -> np.ndarray:
        total = None
        for matrix, start, end in zip(matrices, ends[:-1], ends[1:], strict=True):
            factor = matrix + offsets[:, start:end].reshape(-1, *matrix.shape)
            total = factor if total is None else factor @ total
        return total

    truth = network(np.zeros((1, ends[-1])))
    return lambda offsets: np.sum((network(offsets) - truth) ** 2, axis=(1, 2))


def propose(rng: np.random.Generator, points: np.ndarray, others: np.ndarray, level: float):
    """Moved points and the log of their Jacobian: random walks on all scales, differences, and rescalings."""
    count, dim = points.shape
    kind = rng.integers(4)
    some = rng.random((count, dim)) < rng.choice([1.5 / dim, 0.5, 1.0])
    if kind == 0:  # a random walk whose size is drawn between the finest direction and the box
        scale = np.exp(rng.uniform(0.5 * log(level) - 1, log(RADIUS), (count, 1)))
        return points + some * scale * rng.standard_normal((count, dim)), np.zeros(count)
    if kind == 1:  # a difference of two points of the other half has the shape of the law itself
        pair = others[rng.integers(len(others), size=(2, count))]
        size = rng.choice([0.1, 0.5, 1.0], (count, 1))
        return points + some * size * (pair[0] - pair[1]), np.zeros(count)
    # rescale some coordinates, together or each by itself: walks in log|w|
    width = rng.choice([0.1, 0.5, 2.0])
    shared = rng.standard_normal((count, 1 if kind == 2 else dim))
    logs = np.where(some, width * shared, 0.0)
    return points * np.exp(logs), logs.sum(axis=1)


def move(rng, points, values, error, level, sweeps):
    """Metropolis steps for the uniform law on {K ≤ level} in the box, one half of the particles at a time."""
    half = len(points) // 2
    for sweep in range(2 * sweeps):
        mine, others = (slice(0, half), slice(half, None))[:: 1 if sweep % 2 else -1]
        moved, log_jacobian = propose(rng, points[mine], points[others], level)
        moved_values = error(moved)
        accept = (
            (np.abs(moved).max(axis=1) <= RADIUS)
            & (moved_values <= level)
            & (np.log(rng.random(len(moved))) < log_jacobian)
        )
        points[mine][accept] = moved[accept]
        values[mine][accept] = moved_values[accept]


def measured_slope(
    seed: int, error: Callable[[np.ndarray], np.ndarray], parameters: int, particles: int, sweeps: int
) -> float:
    """(log V(COARSE) - log V(FINE)) / log(COARSE/FINE) of K = `error` from one run of multilevel splitting."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-RADIUS, RADIUS, (particles, parameters))
    values = error(points)
    log_volume, at_coarse = 0.0, None
    while True:
        target = COARSE if at_coarse is None else FINE
        level = max(float(np.median(values)), target)
        alive = np.flatnonzero(values <= level)
        log_volume += log(len(alive) / particles)
        if level == target:
            if at_coarse is not None:
                return (at_coarse - log_volume) / log(COARSE / FINE)
            at_coarse = log_volume
        # A random order, so that copies of a particle do not all sit in one half.
        chosen = rng.permutation(np.concatenate([alive, rng.choice(alive, particles - len(alive))]))
        points, values = points[chosen], values[chosen]
        move(rng, points, values, error, level, sweeps)


def expected_slope(learning_coefficient: float, multiplicity: int) -> float:
    """The same slope of V(t) = t^λ (-log t)^(m-1)."""
    shrink = log(log(FINE) / log(COARSE)) / log(COARSE / FINE)
    return learning_coefficient - (multiplicity - 1) * shrink


def decompositions(widths: tuple[int, ...]) -> Iterator[dict[tuple[int, int], int]]:
    """Every w* of these widths up to a change of basis, as intervals of layers."""
    starts = [layer for layer, width in enumerate(widths) if width]
    if not starts:
        yield {}
        return
    first = starts[0]  # one of its basis vectors lives until some layer `last`; count each multiset once
    for last in range(first, len(widths)):
        if widths[last] == 0:
            break
        rest = tuple(width - (first <= layer <= last) for layer, width in enumerate(widths))
        for intervals in decompositions(rest):
            if not any(a == first and b < last for a, b in intervals):
                yield {**intervals, (first, last): intervals.get((first, last), 0) + 1}


def open_points(max_parameters: int = 24) -> Iterator[tuple[tuple[int, ...], dict[tuple[int, int], int]]]:
    """Points whose bounds do not meet: three layers with widths up to 3, four layers with widths up to 2."""
    for widths in [*product((1, 2, 3), repeat=4), *product((1, 2), repeat=5)]:
        if sum(a * b for a, b in pairwise(widths)) <= max_parameters:
            for intervals in decompositions(widths):
                if not theory.deep_linear_network_local(widths, ranks_of(widths, intervals)).certified:
                    yield widths, intervals


def measure(widths, intervals, arguments) -> tuple[theory.LocalLearningCoefficient, np.ndarray, str]:
    """The local value, the slopes measured (one per repeat), and a line of the table."""
    ranks = ranks_of(widths, intervals)
    matrices = theory.normal_form(widths, ranks)
    local = theory.deep_linear_network_local(widths, ranks)
    error, parameters = squared_error(matrices), sum(matrix.size for matrix in matrices)
    slopes = np.array(
        [
            measured_slope(arguments.seed + repeat, error, parameters, arguments.particles, arguments.sweeps)
            for repeat in range(arguments.repeats)
        ]
    )
    spread = f" ± {np.std(slopes, ddof=1) / np.sqrt(len(slopes)):.3f}" if len(slopes) > 1 else ""
    names = [f"[{a},{b}]" + (f" x {n}" if n > 1 else "") for (a, b), n in sorted(intervals.items())]
    expected = sorted({expected_slope(float(local.upper), m) for m in (1, local.multiplicity_bound)})
    cells = [
        "-".join(map(str, widths)),
        ", ".join(names),
        parameters,
        local.lower,
        local.upper,
        local.multiplicity_bound,
        " to ".join(f"{slope:.3f}" for slope in expected),
        f"{slopes.mean():.3f}{spread}",
    ]
    return local, slopes, f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=4000)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", type=int, nargs="*", help="rows of the table, default all")
    parser.add_argument("--every", action="store_true", help="every small point whose bounds do not meet")
    arguments = parser.parse_args()

    networks = NETWORKS if arguments.networks is None else [NETWORKS[row] for row in arguments.networks]
    distances, sides = [], []
    print("| widths | intervals of w* | parameters | lower | claim | m at most | slope expected | measured |")
    print("|---|---|---|---|---|---|---|---|")
    for widths, intervals in open_points() if arguments.every else networks:
        local, slopes, line = measure(widths, intervals, arguments)
        print(line, flush=True)
        claimed, slope = float(local.upper), float(slopes.mean())
        least = expected_slope(claimed, local.multiplicity_bound)
        distances.append(max(least - slope, slope - claimed, 0.0))
        sides.append(abs(slope - claimed) < abs(slope - float(local.lower)))
    print(
        f"\n{len(sides)} points, {sum(sides)} nearer to the claim than to the lower bound; "
        f"distance from the slopes expected: median {np.median(distances):.3f}, largest {max(distances):.3f}"
    )


if __name__ == "__main__":
    main()
