"""Stages of every seed of an `lrt-stages` run, from its results: detected, not chosen."""

import numpy as np
import xarray

from slt_jax.analysis.stages import Stages, detect_stages

__all__ = ["PAPER_STAGES", "find_stages", "shown"]

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


def shown(at: xarray.Dataset) -> tuple[float, float]:
    """Span of the time axis: little happens before half the first step with an LLC."""
    return max(1.0, float(at.checkpoint.values[0]) / 2), 1.05 * float(at.step.values[-1])
