"""The page of `plasticity`: e of every specification, its null, matched pairs and recovery; from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.plasticity import Plasticity
from experiments.plasticity.figures import movement_figure
from experiments.plasticity.rows import fits, matched_pairs, peaks, pseudo_peaks, rows_of
from slt_jax.analysis.regression import Slope
from slt_lab.page import Page, Section, Table

__all__ = ["page"]

DEALS = 200
"""Of pseudo-peaks."""


def page(results: xarray.Dataset, config: Plasticity) -> Page:
    """The page of a run."""
    found, _ = peaks(results)
    optimizers = list(dict.fromkeys(shift.optimizer for shift in config.shifts))
    sections: list[Section] = []
    summary: dict[str, Any] = {"fallen": int(found.found.sum()), "heads": len(found.found)}
    for optimizer in optimizers:
        rows = rows_of(results, optimizer)
        slopes, null = fits(rows), pseudo_peaks(np.random.default_rng(config.seeds[0]), rows, DEALS)
        pairs = matched_pairs(rows)
        sections.append(
            Section(
                f"Training on with {optimizer}",
                [_about_pairs(pairs)],
                _table(slopes, null),
                [movement_figure(rows, optimizer)],
            )
        )
        summary[optimizer] = _numbers(slopes, null, pairs)
    sections.append(Section("Recovery from noise", [_about_recovery(results)]))
    lead = (
        f"{summary['fallen']} of {summary['heads']} heads have a refined LLC that rises and then falls by more than its noise (Bonferroni). Do they resist being "
        "changed once they are past their peak? The predictions are in docs/results/plasticity/predictions.md."
    )
    return Page("Plasticity", lead, sections, summary=summary)


def _table(slopes: dict[str, Slope], null: dict[str, np.ndarray]) -> Table:
    rows = [
        [
            name, f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})",
            f"{np.nanquantile(null[name], 0.025):+.3f} to {np.nanquantile(null[name], 0.975):+.3f}", str(one.models),
        ]
        for name, one in slopes.items()
    ]  # fmt: skip
    return Table(["held", "e, log movement past the peak (95%)", "e of pseudo-peaks, middle 95%", "rows"], rows)


def _about_pairs(pairs: dict[str, Any]) -> str:
    kept = pairs["difference"][np.isfinite(pairs["difference"])]
    if len(kept) < 2:
        return f"{pairs['pairs']} matched pairs in {len(kept)} models: too few to say anything."
    error = kept.std(ddof=1) / np.sqrt(len(kept))
    return (
        f"Matched pairs of one model and checkpoint, the nearest in refined LLC: log movement past the peak less before it {kept.mean():+.3f} ± {error:.3f} "
        f"over {len(kept)} models ({pairs['pairs']} pairs)."
    )


def _about_recovery(results: xarray.Dataset) -> str:
    times = results.recovery_half_life.values
    reached = np.isfinite(times)
    if not reached.any():
        return "No head recovered half of its damage in the steps looked at."
    return f"The damage of {reached.sum()} of {times.size} heads was halved in the steps looked at, in {np.median(times[reached]):.1f} steps (median of these)."


def _numbers(slopes: dict[str, Slope], null: dict[str, np.ndarray], pairs: dict[str, Any]) -> dict[str, Any]:
    kept = pairs["difference"][np.isfinite(pairs["difference"])]
    return {
        "e": {name: one._asdict() for name, one in slopes.items()},
        "pseudo_peaks": {
            name: [float(one) for one in np.nanquantile(null[name], [0.025, 0.5, 0.975])] for name in slopes
        },
        "pairs": pairs["pairs"],
        "pair_difference": float(kept.mean()) if len(kept) else None,
    }
