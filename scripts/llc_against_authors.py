"""LLC over training seeds beside the authors' mean of five seeds, from the curves.csv of paper-scale runs.

python scripts/llc_against_authors.py RUN_FOLDER [RUN_FOLDER ...]
"""

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

from experiments.lrt_stages.authors import AUTHORS_LLC

AUTHORS_SEEDS = 5


def main() -> None:
    """Print a row for every step where the authors' mean is known and at least two of our seeds were sampled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of `lrt-stages` runs, or curves.csv files")
    estimates = _estimates(parser.parse_args().runs)
    print("   step  LLC of our seeds                         mean   s.d.   theirs  difference ± s.e.")
    for step, seeds in sorted(estimates.items()):
        if step not in AUTHORS_LLC or len(seeds) < 2:
            continue
        values = np.asarray([seeds[seed] for seed in sorted(seeds)])
        spread = values.std(ddof=1)
        # Their seeds are taken to spread as ours do: both means carry it.
        error = spread * (1 / len(values) + 1 / AUTHORS_SEEDS) ** 0.5
        row = ", ".join(f"{seed}: {seeds[seed]:.1f}" for seed in sorted(seeds))
        print(
            f"{step:>7,}  {row:<38}  {values.mean():6.1f}  {spread:5.1f}  {AUTHORS_LLC[step]:6}  "
            f"{values.mean() - AUTHORS_LLC[step]:+6.1f} ± {error:.1f}"
        )


def _estimates(runs: list[Path]) -> dict[int, dict[int, float]]:
    """step -> seed -> LLC."""
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for run in runs:
        path = run if run.suffix == ".csv" else run / "curves.csv"
        if not path.exists():
            raise SystemExit(f"{path} does not exist; give folders of finished lrt-stages runs")
        with path.open() as file:
            for row in csv.DictReader(file):
                if row["llc"]:
                    found[int(row["step"])][int(row["seed"])] = float(row["llc"])
    return found


if __name__ == "__main__":
    main()
