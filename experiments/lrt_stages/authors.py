"""The authors' own curves (arXiv 2402.02364, published with their code), seeds 0 and 1, and ours beside them."""

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray

from configs.lrt_stages import LRTStages, Model
from slt_lab.page import Table

__all__ = ["AUTHORS_LLC", "AuthorsCurves", "authors_at", "authors_curves", "comparable", "comparison_table"]

FILE = Path(__file__).with_name("authors_curves.csv")
SCHEDULE_STEPS = 500_000  # stage times are tied to the learning-rate schedule
AUTHORS_LLC = {
    1500: 21, 2500: 44, 5000: 119, 7200: 140, 10_000: 156, 20_000: 167.5, 40_000: 170, 60_000: 170, 81_000: 166, 101_000: 160,
    126_000: 157, 202_000: 149, 253_000: 135, 298_000: 126, 348_000: 121.7, 500_000: 128,
}  # fmt: skip
"""Their mean LLC over five seeds, by step; the spread over seeds is at most 1.5 from 7k to 200k steps, 6-9 after."""
AUTHORS_TRACE = {
    1000: 169, 2500: 433, 5000: 1860, 10_000: 2757, 20_000: 2822, 40_000: 1815, 81_000: 737, 126_000: 397, 172_000: 341,
    253_000: 434, 318_000: 501, 500_000: 786,
}  # fmt: skip
"""Their mean Hessian trace over five seeds, by step."""


class AuthorsCurves(NamedTuple):
    """One of their seeds; every array has shape `(190,)`."""

    step: np.ndarray
    loss: np.ndarray
    llc: np.ndarray
    icl_score: np.ndarray
    distance_to_ridge: np.ndarray


@cache
def authors_curves(seed: int) -> AuthorsCurves:
    """Their curves of `seed`, 0 or 1."""
    with FILE.open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["seed"]) == seed]
    column = {name: np.asarray([float(row[name]) for row in rows]) for name in rows[0]}
    score = column["loss_token_7"] - column["loss_token_0"]
    return AuthorsCurves(column["step"], column["loss"], column["llc"], score, column["distance_to_ridge"])


def comparable(config: LRTStages) -> bool:
    """Whether a run trained as theirs did."""
    training = config.training
    theirs = (Model(), SCHEDULE_STEPS, 256, 3e-3)
    return (config.model, training.schedule_steps, training.batch_size, training.peak_learning_rate) == theirs


def comparison_table(results: xarray.Dataset) -> Table:
    """Ours beside theirs at the steps both have: loss and LLC of their seeds 0 and 1, mean LLC and Hessian trace of their five.

    "In s.e." divides our LLC minus their mean by the error of that difference: our own, and the spread over seeds as their
    seeds 0 and 1 show it, which ours has too.
    """
    head = [
        "step", "loss", "theirs, seeds 0 and 1", "difference from their mean", "ICL score", "theirs", "LLC", "± s.e.",
        "their mean of five", "seeds 0 and 1", "difference from the mean", "in s.e.", "Hessian trace", "± s.e.", "theirs",
    ]  # fmt: skip
    traced = "hessian_trace" in results
    rows: list[Sequence[str]] = []
    for seed in results.seed.values.tolist():
        prefix = f"seed {seed}, " if results.seed.size > 1 else ""
        for step in results.checkpoint.values.tolist():
            here = results.sel(seed=seed, step=step, checkpoint=step)
            losses, scores, llcs = (authors_at(name, step) for name in ("loss", "icl_score", "llc"))
            rows.append([
                f"{prefix}{step:,}", f"{float(here.loss):.3f}", ", ".join(f"{loss:.3f}" for loss in losses),
                f"{float(here.loss) / np.mean(losses) - 1:+.1%}", f"{float(here.icl_score):.2f}",
                ", ".join(f"{score:.2f}" for score in scores), f"{float(here.llc):.1f}", f"{float(here.llc_std_error):.1f}",
                f"{AUTHORS_LLC.get(step, '')}", ", ".join(f"{llc:.1f}" for llc in llcs), *_distance(here, step, llcs),
                f"{float(here.hessian_trace):.0f}" if traced else "",
                f"{float(here.hessian_trace_std_error):.0f}" if traced else "", f"{AUTHORS_TRACE.get(step, '')}",
            ])  # fmt: skip
    return Table(head, rows)


def authors_at(name: str, step: int) -> list[float]:
    """A curve of their seeds 0 and 1 at `step`, read off in log time."""
    curves = [authors_curves(seed) for seed in (0, 1)]
    return [float(np.interp(np.log1p(step), np.log1p(one.step), getattr(one, name))) for one in curves]


def _distance(here: xarray.Dataset, step: int, llcs: list[float]) -> tuple[str, str]:
    """Our LLC minus their mean of five, and that over its standard error; empty where no mean is known."""
    if step not in AUTHORS_LLC:
        return "", ""
    difference = float(here.llc) - AUTHORS_LLC[step]
    spread = abs(llcs[0] - llcs[1]) / 2**0.5
    error = np.hypot(float(here.llc_std_error), spread * (1 + 1 / 5) ** 0.5)
    return f"{difference:+.1f}", f"{difference / error:+.1f}"
