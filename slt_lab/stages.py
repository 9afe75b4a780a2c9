"""Stages of a run, found and as a reader sees them: names, shading, a table. Shared by every experiment with stages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray

from slt_jax.analysis.stages import Stages, detect_stages
from slt_jax.plotting import shade_stages
from slt_lab.page import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FEWEST", "HOW_FOUND", "find_stages", "shade", "stage_table"]

FEWEST = 5
"""Checkpoints with an LLC that stage detection needs."""

HOW_FOUND = (
    "A stage ends where the smoothed LLC turns (a maximum or a minimum) or pauses (a plateau); no boundary is set by hand. "
    "Boundaries found in fewer than nine of ten draws from the smoothing process are left out."
)


def find_stages(results: xarray.Dataset) -> Stages | None:
    """The stages of one LLC curve, dims (step) and (checkpoint); `None` with fewer than `FEWEST` finite LLCs."""
    finite = (np.isfinite(results.llc) & np.isfinite(results.llc_std_error)).values
    if finite.sum() < FEWEST:
        return None
    at = results.isel(checkpoint=finite)
    steps, llc, error = (values.values.astype(float) for values in (at.checkpoint, at.llc, at.llc_std_error))
    return detect_stages(steps, llc, error, results.step.values.astype(float), results.loss.values.astype(float))


def _arrows(stage_type: str) -> str:
    """A type such as "loss down, LLC up" as "loss ↓ LLC ↑"."""
    return stage_type.replace(",", "").replace("down", "↓").replace("up", "↑").replace("flat", "→")


def _stage_names(stages: Stages) -> list[str]:
    """A, B, C, ...: ours are not the paper's LR1-LR5, which were fixed by hand."""
    return [chr(ord("A") + index) for index in range(len(stages.stages))]


def _intervals(stages: Stages) -> list[tuple[float, float]]:
    """Where each boundary lies with 95% probability."""
    return [(boundary.low, boundary.high) for boundary in stages.boundaries]


def shade(ax: "Axes", stages: Stages | None, *, labels: bool = False) -> None:
    """Shade the stages, if there are any, behind what is drawn on `ax`."""
    if stages is None:
        return
    names = [f"{name}: {_arrows(stage.type)}" for name, stage in zip(_stage_names(stages), stages.stages, strict=True)]
    shade_stages(ax, stages.edges, names if labels else (), intervals=_intervals(stages) if labels else ())


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
        for i, (name, stage) in enumerate(zip(_stage_names(stages), stages.stages, strict=True)):
            last = i == len(stages.boundaries)
            boundary = None if last else stages.boundaries[i]
            rows.append([
                prefix + name, f"{stage.start:,.0f}", f"{stage.end:,.0f}",
                "end of the run" if boundary is None else f"{boundary.low:,.0f} - {boundary.high:,.0f}",
                "" if boundary is None else f"{boundary.kind} ({boundary.support:.0%} of draws)",
                f"{stage.loss_change:+.3f}", f"{stage.llc_change:+.1f}", f"{stage.llc_change_std_error:.1f}",
                _arrows(stage.type),
            ])  # fmt: skip
    return Table(head, rows)
