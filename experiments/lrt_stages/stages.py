"""Stages of every seed of an `lrt-stages` run, from its results: detected, not chosen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray

from experiments.page import Table
from slt_jax.analysis.stages import Stages, detect_stages
from slt_jax.plotting import shade_stages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PAPER_STAGES", "arrows", "find_stages", "intervals", "shade", "shown", "stage_names", "stage_table"]

PAPER_STAGES = (
    ("LR1", "1k", "-0.32", "+21.4"),
    ("LR2", "40k", "-2.21", "+149"),
    ("LR3", "126k", "-0.07", "-12.3"),
    ("LR4", "320k", "-0.05", "-44.1"),
    ("LR5", "500k", "-0.029", "+3.56"),
)
"""The paper's table for its seed 1: stage, end, change of loss and of LLC (arXiv 2402.02364, figure 2)."""

FEWEST = 5  # checkpoints with an LLC that stage detection needs


def find_stages(results: xarray.Dataset) -> dict[int, Stages]:
    """Stages by seed; a seed with fewer than five finite LLCs has none."""
    found = {}
    for seed in results.seed.values:
        at = results.sel(seed=seed)
        finite = np.isfinite(at.llc.values) & np.isfinite(at.llc_std_error.values)
        if finite.sum() < FEWEST:
            continue
        found[int(seed)] = detect_stages(
            at.checkpoint.values[finite].astype(float), at.llc.values[finite].astype(float),
            at.llc_std_error.values[finite].astype(float), at.step.values.astype(float), at.loss.values.astype(float),
        )  # fmt: skip
    return found


def arrows(stage_type: str) -> str:
    """A type such as "loss down, LLC up" as "loss ↓ LLC ↑"."""
    return stage_type.replace(",", "").replace("down", "↓").replace("up", "↑").replace("flat", "→")


def stage_names(stages: Stages) -> list[str]:
    """A, B, C, ...: ours are not the paper's LR1-LR5, which were fixed by hand."""
    return [chr(ord("A") + index) for index in range(len(stages.stages))]


def intervals(stages: Stages) -> list[tuple[float, float]]:
    """Where each boundary lies with 95% probability."""
    return [(boundary.low, boundary.high) for boundary in stages.boundaries]


def shade(ax: "Axes", stages: Stages | None, *, labels: bool = False) -> None:
    """Shade the stages, if there are any, behind what is drawn on `ax`."""
    if stages is None:
        return
    names = [f"{name}: {arrows(stage.type)}" for name, stage in zip(stage_names(stages), stages.stages, strict=True)]
    shade_stages(ax, stages.edges, names if labels else (), intervals=intervals(stages) if labels else ())


def shown(at: xarray.Dataset) -> tuple[float, float]:
    """Span of the time axis: little happens before half the first step with an LLC."""
    return max(1.0, float(at.checkpoint.values[0]) / 2), 1.05 * float(at.step.values[-1])


def stage_table(found: dict[int, Stages]) -> Table:
    """One row per stage of every seed."""
    head = [
        "stage",
        "from",
        "to",
        "95% interval of its end",
        "ends at a",
        "change of loss",
        "change of LLC",
        "± s.e.",
        "type",
    ]
    rows: list[Sequence[str]] = []
    for seed, stages in found.items():
        prefix = f"seed {seed}, " if len(found) > 1 else ""
        for i, (name, stage) in enumerate(zip(stage_names(stages), stages.stages, strict=True)):
            last = i == len(stages.boundaries)
            boundary = None if last else stages.boundaries[i]
            rows.append([
                prefix + name, f"{stage.start:,.0f}", f"{stage.end:,.0f}",
                "end of the run" if boundary is None else f"{boundary.low:,.0f} - {boundary.high:,.0f}",
                "" if boundary is None else f"{boundary.kind} ({boundary.support:.0%} of draws)",
                f"{stage.loss_change:+.3f}", f"{stage.llc_change:+.1f}", f"{stage.llc_change_std_error:.1f}",
                arrows(stage.type),
            ])  # fmt: skip
    return Table(head, rows)
