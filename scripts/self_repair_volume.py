"""Measure the learning coefficients of the toys of self-repair from how fast volume shrinks: the table of docs/self-repair.md.

    python scripts/self_repair_volume.py             every row (an hour of one core)
    python scripts/self_repair_volume.py --rows 0 1  some of them
    python scripts/self_repair_volume.py --values    instead, values and free energies at finite temperature (a minute)

The method is that of `scripts/local_lambda_volume.py`: V(t), the share of a box around w* where L ≤ t, goes like t^λ (-log t)^(m-1),
and is followed down to t = 1e-20 by multilevel splitting.
"""

import argparse

import numpy as np
from local_lambda_volume import expected_slope, measured_slope

from slt_jax.theory.self_repair import (
    LayerNormScale,
    LouderWins,
    OwnKnowledge,
    ParallelCopies,
    ResidualCorrector,
    ThresholdGate,
    Toy,
    VoteOfThree,
)
from slt_jax.theory.self_repair_values import plane_product_value

TOYS: list[Toy] = [
    *(ResidualCorrector(2, repaired) for repaired in (0, 1, 2)),
    ResidualCorrector(2, 2, strength=0.5),
    ResidualCorrector(2, 1, left_out=1),
    *(ResidualCorrector(3, repaired) for repaired in (1, 2, 3)),
    ResidualCorrector(3, 2, left_out=2),
    *(ResidualCorrector(4, repaired) for repaired in (1, 2, 4)),
    ResidualCorrector(4, 2, left_out=2),
    OwnKnowledge(2, 0.5),
    ParallelCopies(2, 3),
    ThresholdGate(2),
    LayerNormScale(2, 0.5),
    *(LouderWins(2, repaired) for repaired in (0, 1, 2)),
    VoteOfThree(),
]


SETTINGS = ((1e4, 100.0), (1e6, 1000.0))
"""(nβ, γ)."""
PLANE = ((1e4, 10.0), (1e4, 100.0), (1e6, 100.0), (1e8, 100.0), (1e12, 100.0))


def print_values() -> None:
    """nβE[L] and F of the corrector in four dimensions and of its rivals, and in the plane also at extreme settings."""
    rivals: list[Toy] = [
        *(ResidualCorrector(4, repaired) for repaired in range(5)),
        *(ResidualCorrector(4, 4, strength=strength) for strength in (0.5, 0.9, 0.99)),
        ResidualCorrector(4, 2, left_out=2), OwnKnowledge(4, 0.5), LayerNormScale(4, 0.5), LouderWins(4, 4), VoteOfThree(),
    ]  # fmt: skip
    print("| toy | R(1) | λ |", " | ".join(f"nβ = {n:g}, γ = {g:g} | F" for n, g in SETTINGS), "|")
    for toy in rivals:
        cells = [repr(toy), f"{toy.full_repair:.3g}", str(toy.coefficient.learning_coefficient)]
        for nbeta, localization in SETTINGS:
            value = toy.finite(nbeta, localization)
            cells += [f"{value.llc:.3f} ± {value.std_error:.3f}", f"{value.free_energy:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    print("\n| nβ, γ |", " | ".join(f"{repaired} of 2 repaired" for repaired in range(3)), "|")
    for nbeta, localization in PLANE:
        values = [plane_product_value(repaired, nbeta, localization).llc for repaired in range(3)]
        print(f"| {nbeta:g}, {localization:g} | {' | '.join(f'{value:.4f}' for value in values)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=4000)
    parser.add_argument("--sweeps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, nargs="*", help="rows of the table, default all")
    parser.add_argument("--values", action="store_true", help="values at finite temperature instead")
    arguments = parser.parse_args()
    if arguments.values:
        print_values()
        return

    print("| toy | parameters | λ | m | slope expected | measured | off by |\n|---|---|---|---|---|---|---|")
    for toy in TOYS if arguments.rows is None else [TOYS[row] for row in arguments.rows]:
        slopes = [
            measured_slope(
                arguments.seed + repeat, lambda offsets, toy=toy: toy.loss(toy.center + offsets), len(toy.center),
                arguments.particles, arguments.sweeps,
            )
            for repeat in range(arguments.repeats)
        ]  # fmt: skip
        exact, multiplicity = toy.coefficient
        expected, found = expected_slope(float(exact), multiplicity), float(np.mean(slopes))
        spread = np.std(slopes, ddof=1) / np.sqrt(len(slopes)) if len(slopes) > 1 else np.nan
        cells = [
            repr(toy), len(toy.center), exact, multiplicity, f"{expected:.3f}", f"{found:.3f} ± {spread:.3f}",
            f"{found / expected - 1:+.1%}",
        ]  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
