"""The page of the trained models: regressions, levels of the regimes, figures; from storage alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray

from configs.self_repair import Trained
from experiments.self_repair.trained_figures import clouds, slopes_figure
from slt_jax.analysis.regression import Slope, permutation_share, slope
from slt_lab.page import Page, Section, Table

__all__ = ["ROWS", "fits", "matched", "page", "rows_of"]

PREDICTORS = {
    "R(0.1)": "local repair, last LayerNorm held",
    "R(1)": "repair of a whole head, last LayerNorm held",
    "Q": "redundancy within layers",
}
MODELS = {
    "raw": (), "loss": ("loss",), "loss and norm": ("loss", "norm"), "with the trace": ("loss", "norm", "trace"),
}  # fmt: skip
"""The four regressions: name -> covariates. The trace is the mediator, not a confounder."""
ROWS = ("llc", "loss", "norm", "trace", "R(0.1)", "R(1)", "Q")
PERMUTATIONS = 2000
LEVEL = 3.0
"""Chains are level if the drift is within so many of its standard errors."""


def rows_of(results: xarray.Dataset, checkpoint: int = -1) -> dict[str, np.ndarray]:
    """One number a model of everything in `ROWS`, at one checkpoint, and `regime`."""
    at = results.isel(checkpoint=checkpoint, setting=0)
    held = at.repair.sel(norms="last held", replacement="resample")
    found = {
        "llc": at.llc, "loss": at.evaluation_loss, "norm": at.weight_norm, "trace": at.hessian_trace,
        "R(0.1)": held.isel(strength=1), "R(1)": held.isel(strength=0), "Q": at.redundancy.sel(replacement="resample"),
    }  # fmt: skip
    rows = {name: np.asarray(value.values, float) for name, value in found.items()}
    return rows | {"regime": np.array([str(name).rpartition(" ")[0] for name in at.model.values])}


def matched(results: xarray.Dataset, loss: float) -> dict[str, np.ndarray]:
    """The same where each model's loss first reaches `loss`, straight between two checkpoints; NaN where it does not."""
    each = [rows_of(results, number) for number in range(results.sizes["checkpoint"])]
    stacked = {name: np.stack([rows[name] for rows in each], axis=-1) for name in ROWS}
    found = {name: np.full(len(stacked["loss"]), np.nan) for name in ROWS}
    for model, losses in enumerate(stacked["loss"]):
        below = np.flatnonzero(losses <= loss)
        if not below.size or below[0] == 0:
            continue
        end = below[0]
        share = (losses[end - 1] - loss) / (losses[end - 1] - losses[end])
        for name in ROWS:
            values = stacked[name][model]
            found[name][model] = values[end - 1] + share * (values[end] - values[end - 1])
    return found | {"regime": each[0]["regime"]}


def fits(rows: dict[str, np.ndarray], seed: int = 0) -> dict[tuple[str, str], tuple[Slope, float]]:
    """(predictor, regression) -> slope of the LLC and its permutation share; those within regimes are "within regimes, ...".

    What has no slope (too few models, a predictor that does not vary) is left out.
    """
    found = {}
    for predictor in PREDICTORS:
        for name, covariates in MODELS.items():
            columns = [rows[one] for one in covariates]
            for prefix, groups in (("", ()), ("within regimes, ", (rows["regime"],))):
                try:
                    one = slope(rows["llc"], rows[predictor], columns, groups)
                    rng = np.random.default_rng(seed)
                    share = permutation_share(rng, rows["llc"], rows[predictor], columns, groups, PERMUTATIONS)
                except ValueError:
                    continue
                found[predictor, prefix + name] = (one, share)
    return found


def page(results: xarray.Dataset, config: Trained) -> Page:
    """The page of a run."""
    rows = rows_of(results)
    target = float(np.nanmax(rows["loss"]))  # the loss that every model reaches
    everywhere = {"at equal steps": fits(rows), "at matched loss": fits(matched(results, target))}
    sections = [
        Section("The regimes", [_about_levels(results)], _regime_table(rows), [clouds(rows)]),
        *(Section(f"Slopes of the LLC, {when}", [_about_slopes(when, target)], _fit_table(found), [slopes_figure(found, when)]) for when, found in everywhere.items()),
    ]  # fmt: skip
    lead = (
        "Does a language model that repairs itself have a lower local learning coefficient? Models that begin alike are trained plainly, with heads that "
        "fail at random (which should make them repair), and with two flatteners that damage no head. The predictions are in docs/results/self_repair/predictions.md."
    )
    return Page(
        "Self-repair: trained models", lead, sections, _warnings(results), summary=_summary(rows, everywhere, target)
    )


def _level(results: xarray.Dataset) -> np.ndarray:
    """Whether the chains are level, wherever an LLC was measured."""
    measured = np.isfinite(results.llc.values)
    return (abs(results.llc_drift) <= LEVEL * results.llc_drift_std_error).values[measured]


def _about_levels(results: xarray.Dataset) -> str:
    level = _level(results)
    return (
        f"{int(level.sum())} of {level.size} LLCs come from level chains (drift within {LEVEL:g} of its standard errors). "
        "R is measured by resampling, with the last LayerNorm held; Q is 1 minus the heads' rises of the loss over those of whole layers."
    )


def _about_slopes(when: str, target: float) -> str:
    where = f" (loss {target:.3f}, which every model reaches)" if when == "at matched loss" else ""
    return (
        f"LLC per unit of the predictor{where}, with the 95% interval, partial correlation, and the share of {PERMUTATIONS:,} label permutations that are "
        "at least as extreme. Loss and norm are confounders; the Hessian trace is the mediator that theory names. Within regimes, each regime has an intercept."
    )


def _warnings(results: xarray.Dataset) -> list[str]:
    level = _level(results)
    return [] if level.all() else [f"{int((~level).sum())} of {level.size} LLCs come from chains that are not level."]


def _regime_table(rows: dict[str, np.ndarray]) -> Table:
    def cell(values: np.ndarray) -> str:
        kept = values[np.isfinite(values)]
        return (
            f"{kept.mean():.3g} ± {kept.std(ddof=1) / np.sqrt(len(kept)):.2g}"
            if len(kept) > 1
            else f"{values.mean():.3g}"
        )

    regimes = list(dict.fromkeys(rows["regime"]))
    body = [
        [
            regime,
            str(int((rows["regime"] == regime).sum())),
            *(cell(rows[name][rows["regime"] == regime]) for name in ROWS),
        ]
        for regime in regimes
    ]
    return Table(["regime", "models", *ROWS], body)


def _fit_table(found: dict[tuple[str, str], tuple[Slope, float]]) -> Table:
    body = [
        [
            predictor, name, f"{one.value:.3g} ({one.low:.3g} to {one.high:.3g})", f"{one.partial_correlation:+.2f}", f"{share:.4f}",
            str(one.models),
        ]
        for (predictor, name), (one, share) in found.items()
    ]  # fmt: skip
    return Table(["predictor", "held", "slope (95%)", "partial correlation", "permutations", "models"], body)


def _summary(rows: dict[str, np.ndarray], everywhere: dict, target: float) -> dict[str, Any]:
    numbers: Callable[[np.ndarray], list[float]] = lambda values: [float(value) for value in values]  # noqa: E731
    return {
        "matched_loss": target,
        "rows": {name: numbers(rows[name]) for name in ROWS} | {"regime": [str(one) for one in rows["regime"]]},
        "slopes": {
            when: {f"{predictor}; {name}": {**one._asdict(), "permutation_share": share} for (predictor, name), (one, share) in found.items()}
            for when, found in everywhere.items()
        },
    }  # fmt: skip
