"""How far the numbers of two runs differ: two `summary.json`, or two `curves.csv` at the steps and in the columns both have.

python scripts/compare_runs.py docs/results/lm_stages/cpu_summary.json RUN/summary.json
python scripts/compare_runs.py docs/results/lrt_stages/curves.csv RUN/curves.csv --columns llc hessian_trace
"""

import argparse
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Pair = tuple[str, Any, Any]


def main() -> None:
    """Print how many numbers were compared, the largest relative difference, and whatever else is not the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--columns", nargs="*", help="of curves.csv (default: all that both have)")
    arguments = parser.parse_args()
    files = (arguments.first, arguments.second)
    if {path.suffix for path in files} == {".csv"}:
        pairs = list(_rows(*map(_read_curves, files), arguments.columns))
    elif {path.suffix for path in files} == {".json"}:
        pairs = list(_leaves("", *(json.loads(path.read_text()) for path in files)))
    else:
        raise SystemExit("give two .json or two .csv files of runs")
    numbers = [(_difference(one, two), name, one, two) for name, one, two in pairs if _are_numbers(one, two)]
    others = [(name, one, two) for name, one, two in pairs if not _are_numbers(one, two) and one != two]
    print(
        f"{len(numbers)} numbers compared, {sum(not difference for difference, *_ in numbers)} of them equal to the last digit"
    )
    if numbers:
        relative, name, one, two = max(numbers)
        print(f"largest relative difference: {relative:.1e}, of {name}: {one:g} and {two:g}")
    for name, one, two in others:
        print(f"not the same: {name}: {one} and {two}")


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _difference(one: float, two: float) -> float:
    """Relative; what is not a number on both sides is the same, and infinitely far from any number."""
    if math.isnan(one) or math.isnan(two):
        return 0.0 if math.isnan(one) and math.isnan(two) else math.inf
    scale = max(abs(one), abs(two))
    return abs(one - two) / scale if scale else 0.0


def _leaves(name: str, one: Any, two: Any) -> Iterator[Pair]:
    """Everything in two JSON values, place by place; a place that only one has comes with "missing"."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted(one.keys() | two.keys()):
            yield from _leaves(f"{name}/{key}", one.get(key, "missing"), two.get(key, "missing"))
    elif isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        for index, both in enumerate(zip(one, two, strict=True)):
            yield from _leaves(f"{name}/{index}", *both)
    else:
        yield name, one, two


def _read_curves(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open() as file:
        return {(row["seed"], row["step"]): row for row in csv.DictReader(file)}


def _rows(one: dict, two: dict, columns: list[str] | None) -> Iterator[Pair]:
    for place in one.keys() & two.keys():
        for column in columns or sorted(one[place].keys() & two[place].keys()):
            values = [_number(rows[place].get(column, "")) for rows in (one, two)]
            if None not in values:
                yield f"{column} of seed {place[0]} at step {place[1]}", values[0], values[1]


def _number(text: str) -> float | None:
    value = float(text or "nan")
    return value if math.isfinite(value) else None


if __name__ == "__main__":
    main()
