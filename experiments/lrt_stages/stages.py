"""Stages of every seed of an `lrt-stages` run, from its results: detected, not chosen."""

import xarray

from slt_jax.analysis.stages import Stages
from slt_lab import stages

__all__ = ["PAPER_STAGES", "find_stages", "sampled", "shown"]

PAPER_STAGES = (
    ("LR1", "1k", "-0.32", "+21.4"),
    ("LR2", "40k", "-2.21", "+149"),
    ("LR3", "126k", "-0.07", "-12.3"),
    ("LR4", "320k", "-0.05", "-44.1"),
    ("LR5", "500k", "-0.029", "+3.56"),
)
"""The paper's table for its seed 1: stage, end, change of loss and of LLC (arXiv 2402.02364, figure 2)."""


def sampled(results: xarray.Dataset) -> xarray.Dataset:
    """The checkpoints whose LLC was estimated; there may be others, with another measure."""
    estimated = results.llc.notnull() | results.llc_diverged.any("chain")
    return results.isel(checkpoint=estimated.any("seed").values)


def find_stages(results: xarray.Dataset) -> dict[int, Stages]:
    """Stages by seed; a seed with too few finite LLCs has none."""
    found = {int(seed): stages.find_stages(results.sel(seed=seed)) for seed in results.seed.values}
    return {seed: one for seed, one in found.items() if one is not None}


def shown(at: xarray.Dataset) -> tuple[float, float]:
    """Span of the time axis: little happens before half the first step with an LLC."""
    return max(1.0, float(at.checkpoint.values[0]) / 2), 1.05 * float(at.step.values[-1])
