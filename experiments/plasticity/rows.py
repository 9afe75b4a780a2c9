"""From results to one row for each head of each checkpoint of each model, and the regressions that were fixed beforehand."""

from typing import Any

import numpy as np
import xarray

from slt_jax.analysis.components import RiseThenFall, rise_then_fall
from slt_jax.analysis.regression import Slope, slope

__all__ = ["SPECIFICATIONS", "fits", "matched_pairs", "peaks", "pseudo_peaks", "rows_of"]

SPECIFICATIONS = {
    "checkpoint and head": (),
    "and level": ("level",),
    "and gradient": ("level", "gradient"),
    "and norm": ("level", "gradient", "norm"),
}
"""Name -> what is held beside an intercept for each checkpoint and each place of a head. All in logarithms."""

Rows = dict[str, np.ndarray]


def peaks(results: xarray.Dataset) -> tuple[RiseThenFall, np.ndarray]:
    """Which heads rise and then fall, over (model, layer, head) ravelled, and whether each checkpoint is past a peak, `(curve, checkpoint)`."""
    curves, errors = (
        results[name].transpose("model", "layer", "head", "checkpoint").values.reshape(-1, results.sizes["checkpoint"])
        for name in ("head_llc", "head_llc_std_error")
    )
    whole = np.isfinite(curves).all(axis=1) & (np.isfinite(errors) & (errors > 0)).all(axis=1)
    safe = np.where(whole[:, None], curves, 0.0), np.where(whole[:, None], errors, 1.0)
    found = rise_then_fall(*safe)
    past = found.found[:, None] & (np.arange(curves.shape[1])[None] > found.peak[:, None]) & whole[:, None]
    return found, past


def rows_of(results: xarray.Dataset, optimizer: str) -> Rows:
    """Columns over all heads of all checkpoints of all models; the movement and the gradient are means of their logarithms over new languages."""
    dims = ("model", "layer", "head", "checkpoint")
    shifts = [name for name in results["shift"].values if str(name).startswith(optimizer)]
    moved = np.log(results.head_movement.sel(shift=shifts)).mean("shift").transpose(*dims)
    slopes = np.log(results.head_gradient).mean("language").transpose(*dims)
    shape = moved.shape
    index = np.indices(shape).reshape(4, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        level = np.log(results.head_llc.transpose(*dims).values)
    return {
        "movement": moved.values.ravel(), "level": level.ravel(), "gradient": slopes.values.ravel(),
        "norm": np.log(results.head_norm.isel(language=0).transpose(*dims).values).ravel(),
        "past": peaks(results)[1].astype(float).ravel(), "model": index[0], "place": index[1] * shape[2] + index[2], "checkpoint": index[3],
    }  # fmt: skip


def fits(rows: Rows) -> dict[str, Slope]:
    """e of every specification: log movement past the peak less before it, errors clustered by model. What has none is left out."""
    found = {}
    for name, covariates in SPECIFICATIONS.items():
        try:
            found[name] = slope(
                rows["movement"], rows["past"], [_finite(rows[one]) for one in covariates], [rows["checkpoint"], rows["place"]], rows["model"]
            )  # fmt: skip
        except ValueError:
            continue
    return found


def _finite(column: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(column), column, np.nan)


def pseudo_peaks(rng: np.random.Generator, rows: Rows, count: int = 500) -> dict[str, np.ndarray]:
    """The same e's with the peaks of one head's curve dealt to another at the same place of another model: what e is by chance."""
    models, checkpoints = rows["model"].max() + 1, rows["checkpoint"].max() + 1
    past = rows["past"].reshape(models, -1, checkpoints)
    dealt = []
    for _ in range(count):
        shuffled = np.stack([past[rng.permutation(models), place] for place in range(past.shape[1])], axis=1)
        dealt.append({name: one.value for name, one in fits(rows | {"past": shuffled.ravel()}).items()})
    return {name: np.array([one.get(name, np.nan) for one in dealt]) for name in SPECIFICATIONS}


def matched_pairs(rows: Rows) -> dict[str, Any]:
    """Each head past its peak beside the head of the same model and checkpoint that is not and whose level is nearest.

    Returns:
        `difference`, log movement of the first less the second, one a model (the mean of its pairs), NaN where it has none; `pairs`.
    """
    models = int(rows["model"].max()) + 1
    differences: list[list[float]] = [[] for _ in range(models)]
    for model in range(models):
        for checkpoint in np.unique(rows["checkpoint"]):
            here = (
                (rows["model"] == model)
                & (rows["checkpoint"] == checkpoint)
                & np.isfinite(rows["level"])
                & np.isfinite(rows["movement"])
            )
            fallen, others = (np.flatnonzero(here & (rows["past"] == value)) for value in (1.0, 0.0))
            for row in fallen if others.size else ():
                nearest = others[np.argmin(abs(rows["level"][others] - rows["level"][row]))]
                differences[model].append(float(rows["movement"][row] - rows["movement"][nearest]))
    means = np.array([np.mean(one) if one else np.nan for one in differences])
    return {"difference": means, "pairs": sum(map(len, differences))}
