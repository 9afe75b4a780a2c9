"""Loss, ICL score, distance to ridge and zero prediction of paper-scale runs beside the authors' seeds 0 and 1.

python scripts/training_against_authors.py RUN_FOLDER [RUN_FOLDER ...]

Every training seed of every run is evaluated on the same fresh sequences, many of them: on 8,192 the loss has a standard
error of 1%. With several seeds the last table sets the mean of ours beside the mean of theirs.
"""

import argparse
import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "slt_jax" / "compiled"))

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lrt_stages import EXPERIMENT, subjects
from experiments.lrt_stages.authors import authors_at
from slt_jax.analysis.regression_metrics import behaviour, icl_score
from slt_jax.models.regression_transformer import RegressionTransformer
from slt_jax.progress import progress_bar
from slt_lab.bench import Bench
from slt_lab.cli import restore_config
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.streams import stream
from slt_lab.subjects.regression_transformer import RegressionSubject, sequences

BATCH = 8192


class Measured(NamedTuple):
    """Means over the evaluation sequences of one checkpoint, with the standard errors of two of them."""

    loss: float
    loss_std_error: float
    icl: float
    icl_std_error: float
    zero_prediction: float
    distance_to_ridge: float


def main() -> None:
    """Evaluate the stored checkpoints of every seed and print one row each, then the means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of `lrt-stages` runs")
    parser.add_argument("--steps", type=int, nargs="*", help="checkpoints to evaluate (default: all that are stored)")
    parser.add_argument("--sequences", type=int, default=2**18)
    arguments = parser.parse_args()
    if arguments.sequences < 2 * BATCH:
        parser.error(f"--sequences {arguments.sequences}; at least {2 * BATCH} are needed for a standard error")
    found: dict[int, dict[int, Measured]] = {}
    for bench, subject, seed in _trained(arguments.runs):
        steps = [step for step in bench.kept(subject) if not arguments.steps or step in arguments.steps]
        found.setdefault(seed, {}).update(_measure(bench, subject, steps, arguments.sequences))
    for seed in sorted(found):
        _print_seed(seed, found[seed])
    if len(found) > 1:
        _print_means(found)


def _trained(runs: Iterable[Path]) -> Iterator[tuple[Bench, RegressionSubject, int]]:
    """Every training of every run that has checkpoints."""
    for run in runs:
        try:
            folder = RunFolder.existing(run)
            there = subjects(restore_config(EXPERIMENT, folder), folder)
        except UserError as error:
            raise SystemExit(f"{run} holds no checkpoints of an lrt-stages run: {error}") from error
        bench = Bench(folder)
        found = [(bench, subject, seed) for seed, subject in there.items() if bench.kept(subject)]
        if not found:
            raise SystemExit(f"{run} holds no checkpoints of an lrt-stages run yet")
        yield from found


def _measure(bench: Bench, subject: RegressionSubject, steps: list[int], num_sequences: int) -> dict[int, Measured]:
    key, measured = stream("regression/evaluation"), {}
    with progress_bar(f"evaluation of {subject.name.replace('_', ' ')}", len(steps)) as update:
        for done, step in enumerate(steps, start=1):
            params = bench.params(subject, step)
            blocks = (jax.random.fold_in(key, block) for block in range(num_sequences // BATCH))
            rows = np.asarray([_evaluate(subject.model, params, block) for block in blocks], np.float64)
            means, errors = rows.mean(0), rows.std(0, ddof=1) / len(rows) ** 0.5
            measured[step] = Measured(means[0], errors[0], means[1], errors[1], means[2], means[3])
            update(done, f"step {step}: loss {means[0]:.3f}")
    return measured


@partial(jax.jit, static_argnames="model")
def _evaluate(model: RegressionTransformer, params: dict, key: jax.Array) -> jax.Array:
    found = behaviour(model, params, sequences(model, key, BATCH))
    names = ("loss", "zero_prediction", "distance_to_ridge")
    loss, zero_prediction, distance = (found[name] for name in names)
    return jnp.stack([loss, icl_score(found["loss_token"]), zero_prediction, distance])


def _pair(values: np.ndarray) -> str:
    return " ".join(f"{value:6.3f}" for value in values)


def _print_seed(seed: int, rows: dict[int, Measured]) -> None:
    print(f"\nSeed {seed}; theirs are seeds 0 and 1; differences are from their mean")
    print(
        "   step   loss ± s.e.      theirs         difference   ICL ± s.e.      theirs         distance to ridge  theirs            zero prediction"
    )
    for step, row in sorted(rows.items()):
        loss, icl, distance = (
            np.asarray(authors_at(name, step)) for name in ("loss", "icl_score", "distance_to_ridge")
        )
        print(
            f"{step:>7,}  {row.loss:6.3f} ± {row.loss_std_error:.3f}   {_pair(loss)}  {row.loss / loss.mean() - 1:+7.1%}      "
            f"{row.icl:6.3f} ± {row.icl_std_error:.3f}  {_pair(icl)}   {row.distance_to_ridge:6.3f}             "
            f"{_pair(distance)}     {row.zero_prediction:.4f}"
        )


def _print_means(found: dict[int, dict[int, Measured]]) -> None:
    """Ours beside theirs in the mean over seeds; the error counts the spread over seeds of both."""
    steps = sorted(set.intersection(*(set(rows) for rows in found.values())))
    print(
        f"\nMean of our seeds {', '.join(map(str, sorted(found)))} beside the mean of their seeds 0 and 1; s.d. over seeds"
    )
    print("   step   ours    s.d.    theirs  s.d.    difference ± s.e.")
    for step in steps:
        ours, theirs = np.asarray([rows[step].loss for rows in found.values()]), np.asarray(authors_at("loss", step))
        spread = [ours.std(ddof=1), theirs.std(ddof=1)]
        error = np.hypot(spread[0] / len(ours) ** 0.5, spread[1] / len(theirs) ** 0.5) / theirs.mean()
        print(
            f"{step:>7,}  {ours.mean():6.3f}  {spread[0]:6.3f}  {theirs.mean():6.3f}  {spread[1]:6.3f}  "
            f"{ours.mean() / theirs.mean() - 1:+7.1%} ± {error:.1%}"
        )


if __name__ == "__main__":
    main()
