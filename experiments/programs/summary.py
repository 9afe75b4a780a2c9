"""The numbers of `programs` that tables and tests read, from the stored dataset."""

from typing import Any

import numpy as np
import xarray

from experiments.programs.courses import crossing
from experiments.programs.figures import coefficient_of

__all__ = ["scores_of", "summarise"]


def summarise(results: xarray.Dataset) -> dict[str, Any]:
    atlases = [_atlas_row(results, i) for i in range(results.sizes["atlas"])]
    scores = scores_of(results)
    difference = (results.rivals_free_energy[1] - results.rivals_free_energy[0]).values
    late = results.leaving_coefficient.values[:, :, -results.sizes["draw"] // 4 :]
    quarter = results.leaving_energy.values[:, :, -results.sizes["draw"] // 4 :]
    return {
        "atlas": atlases,
        "programs": int(results.sizes["program"]),
        "atlas_seconds": float(results.atlas_seconds.sum()),
        "scores": {
            f"{results.case.values[i]}, nβ = {results.nbeta.values[j]:g}, {results.sampler.values[k]}": float(
                scores[i, j, k]
            )
            for i, j, k in np.ndindex(scores.shape)
        },
        "crossing": crossing(results.rung_nbeta.values, difference),
        "difference_at_end": float(difference[-1]),
        "leaving": {
            f"{localization:g}": {
                "last_quarter_coefficient": _mean(late[k]),
                "last_quarter_energy": float(quarter[k].mean()),
                "share_at_a_solver": float(np.isfinite(late[k]).mean()),
            }
            for k, localization in enumerate(results.localization.values)
        },
    }


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def scores_of(results: xarray.Dataset) -> np.ndarray:
    """(estimate - value) in joint standard errors, `(case, nbeta, sampler)`; against quadrature where there is one."""
    exact = np.isfinite(results.finite_quadrature.values)
    value = np.where(exact, results.finite_quadrature.values, results.finite_value.values)
    error = np.where(exact, 0.0, results.finite_value_error.values)
    joint = np.hypot(results.estimate_std_error.values, error[:, :, None])
    return (results.estimate_mean.values - value[:, :, None]) / joint


def _atlas_row(results: xarray.Dataset, atlas: int) -> dict[str, Any]:
    """One row of the atlas' table: least λ at the shortest length and beyond, strict cases, spread at equal length."""
    chosen = np.flatnonzero(results.program_atlas.values == atlas)
    lengths, strict = results.program_length.values[chosen], results.program_strict.values[chosen]
    values = [coefficient_of(results, "program", program=int(i)) for i in chosen]
    shortest = lengths.min()
    groups = {
        int(length): [value for value, other in zip(values, lengths, strict=True) if other == length]
        for length in np.unique(lengths)
    }
    longer = [value for length, group in groups.items() if length > shortest for value in group]
    return {
        "problem": str(results.atlas_problem[atlas].item()),
        "steps": int(results.atlas_steps[atlas]),
        "semantics": str(results.atlas_semantics[atlas].item()),
        "solvers": len(chosen),
        "shortest": int(shortest),
        "shortest_coefficient": str(min(groups[int(shortest)])),
        "longer_coefficient": str(min(longer)) if longer else "",
        "strict": int(strict.sum()),
        "spread": float(max(max(group) / min(group) for group in groups.values())),
        "fewest_fatal": int(results.program_fatal.values[chosen].min()),
        "seconds": float(results.atlas_seconds[atlas]),
    }
