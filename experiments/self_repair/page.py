"""The page of the toys: table, sentences and figure, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.self_repair import Toys
from experiments.self_repair import figures
from experiments.self_repair.toys import shown
from slt_lab.page import Page, Section, Table

__all__ = ["distances", "page"]

WANTED = 3.0
"""Standard errors within which a sampled LLC has to be of the exact value."""


def distances(results: xarray.Dataset) -> xarray.DataArray:
    """(sampled - exact)/(joint standard error), dims (model, setting)."""
    at = results.isel(checkpoint=0)
    return (at.llc - at.exact_llc) / np.hypot(at.llc_std_error, at.exact_llc_std_error)


def page(results: xarray.Dataset, config: Toys) -> Page:
    """The page of a run."""
    toys = shown(config.dimension)
    scores = distances(results)
    inside, count = int((abs(scores) <= WANTED).sum()), scores.size
    lead = (
        "It has been conjectured that a network which repairs itself has a lower local learning coefficient than one that computes the same "
        "without repair, and is preferred for it. Here are networks small enough that everything is known exactly. The answer is that it depends on "
        "how the repair is done (docs/self-repair.md)."
    )
    sections = [
        Section("Falls, stays, rises", [], None, [figures.story(results, toys)]),
        Section(
            "Sampled beside exact",
            [
                f"{inside} of {count} sampled LLCs are within {WANTED:g} joint standard errors of the exact value at their nβ and γ; the "
                f"largest distance is {float(abs(scores).max()):.1f}. R(0+) is the share of a slight damage that is made good, R(1) that of a whole one. "
                "F is the free energy under the localising Gaussian, in nats: at equal λ it still differs, through the curvature."
            ],
            _table(results, scores),
        ),
    ]
    warnings = (
        []
        if inside == count
        else [f"{count - inside} of {count} LLCs are further than {WANTED:g} standard errors from the exact value."]
    )
    return Page("Self-repair: toys", lead, sections, warnings, summary=_summary(results, scores))


def _table(results: xarray.Dataset, scores: xarray.DataArray) -> Table:
    at = results.isel(checkpoint=0)
    head = ["toy", "R(0+)", "R(1)", "λ (m)", "λ of one part"]
    for setting in at.setting.values:
        head += [f"{setting}: exact", "sampled (distance)", "F"]
    rows = []
    for name in at.model.values:
        one = at.sel(model=name)
        first = one.isel(setting=0)
        row = [
            str(name), f"{float(first.repair):.3g}", f"{float(first.full_repair):.3g}",
            f"{float(first.learning_coefficient):.4g} ({int(first.multiplicity)})", f"{float(first.plain):.4g}",
        ]  # fmt: skip
        for setting in at.setting.values:
            here = one.sel(setting=setting)
            error = f" ± {float(here.exact_llc_std_error):.3f}" if float(here.exact_llc_std_error) else ""
            row += [
                f"{float(here.exact_llc):.3f}{error}",
                f"{float(here.llc):.3f} ± {float(here.llc_std_error):.3f} ({float(scores.sel(model=name, setting=setting)):+.1f})",
                f"{float(here.exact_free_energy):.2f}",
            ]
        rows.append(row)
    return Table(head, rows)


def _summary(results: xarray.Dataset, scores: xarray.DataArray) -> dict[str, Any]:
    at = results.isel(checkpoint=0)
    names = ("llc", "llc_std_error", "exact_llc", "exact_llc_std_error", "exact_free_energy", "llc_rhat")
    return {
        "within": int((abs(scores) <= WANTED).sum()), "of": scores.size, "largest_distance": float(abs(scores).max()),
        "toys": {
            str(model): {
                "learning_coefficient": float(at.sel(model=model).learning_coefficient[0]),
                "full_repair": float(at.sel(model=model).full_repair[0]),
                **{str(s): {name: float(at[name].sel(model=model, setting=s)) for name in names} for s in at.setting.values},
            }
            for model in at.model.values
        },
    }  # fmt: skip
