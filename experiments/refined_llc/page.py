"""The showing half of `refined-llc`: figures, tables and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.refined_llc import RefinedLLC
from slt_jax.analysis.components import Clusters, RiseThenFall, cluster_curves, rise_then_fall
from slt_lab.heads import head_name, head_panels, where_measured
from slt_lab.page import Page, Picture, Section, Table

__all__ = ["page"]


def page(results: xarray.Dataset, config: RefinedLLC) -> Page:
    """The page of a run."""
    results = where_measured(results, "whole_llc")
    groups, hills = _clusters(results, config.num_clusters), _hills(results)
    sections = [
        Section("Every head, on every source", _story(results), _levels(results), [_heads_figure(results)]),
        Section("Heads that are alike", _cluster_story(groups), _cluster_table(results, groups)),
        Section("Heads that rise and fall", _hill_story(hills), _hill_table(results, hills)),
        Section("The whole model, on every source", table=_whole_table(results)),
    ]
    lead = (
        "The refined LLC (arXiv 2410.02984) samples a part of the weights, or asks for the loss on a part of the data. "
        "Here every attention head of a language model is sampled alone, on its training data and on each source of it."
    )
    lost = int(results.head_llc_diverged.sum()) + int(results.whole_llc_diverged.sum())
    warnings = [f"{lost} chains diverged; their estimates are NaN. Use a smaller step size."] if lost else []
    return Page("refined-llc", lead, sections, warnings, _summary(results, groups, hills))


def _names(results: xarray.Dataset) -> list[str]:
    return [head_name(layer, head) for layer, head in np.ndindex(results.sizes["layer"], results.sizes["head"])]


def _curves(results: xarray.Dataset, variable: str, source: int = 0) -> np.ndarray:
    """`(component, checkpoint)` in the order of `_names`."""
    values = results[variable].isel(source=source).transpose("layer", "head", "checkpoint").values
    return values.reshape(-1, values.shape[-1]).astype(np.float64)


def _clusters(results: xarray.Dataset, num_clusters: int | None) -> Clusters | None:
    curves = _curves(results, "head_llc")
    return cluster_curves(curves, num_clusters) if np.isfinite(curves).all() and len(curves) > 2 else None


def _hills(results: xarray.Dataset) -> RiseThenFall | None:
    curves, errors = _curves(results, "head_llc"), _curves(results, "head_llc_std_error")
    usable = np.isfinite(curves).all() and (errors > 0).all() and curves.shape[1] > 2
    return rise_then_fall(curves, errors) if usable else None


def _summary(results: xarray.Dataset, groups: Clusters | None, hills: RiseThenFall | None) -> dict[str, Any]:
    return {
        "checkpoints": [int(step) for step in results.checkpoint.values],
        "heads": _names(results),
        "head_llc": {
            str(source): _curves(results, "head_llc", i).tolist() for i, source in enumerate(results.source.values)
        },
        "whole_llc": {
            str(source): results.whole_llc.isel(source=i).values.tolist()
            for i, source in enumerate(results.source.values)
        },
        "clusters": None if groups is None else groups.labels.tolist(),
        "rise_then_fall": None if hills is None else hills.found.tolist(),
    }


def _story(results: xarray.Dataset) -> list[str]:
    last = _curves(results, "head_llc")[:, -1]
    order = np.argsort(last)
    ranking = ", ".join(f"{_names(results)[i]} ({last[i]:.1f})" for i in order)
    return [f"Heads are named layer:head, from 0. By refined LLC at the end, lowest first: {ranking}."]


def _levels(results: xarray.Dataset) -> Table:
    """Scores and final refined LLC of every head."""
    sources = [str(source) for source in results.source.values]
    rows = []
    for number, name in enumerate(_names(results)):
        layer, head = divmod(number, results.sizes["head"])
        at = results.isel(layer=layer, head=head, step=-1)
        cells = [name, f"{float(at.previous_token):.2f}", f"{float(at.prefix_matching):.2f}"]
        for i in range(len(sources)):
            end = at.isel(source=i, checkpoint=-1)
            cells.append(f"{float(end.head_llc):.2f} ± {float(end.head_llc_std_error):.2f}")
        rows.append(cells)
    return Table(["head", "previous token", "prefix matching", *(f"refined LLC, {name}" for name in sources)], rows)


def _heads_figure(results: xarray.Dataset) -> Picture:
    figure, axes = head_panels(results)
    for (layer, head), ax in np.ndenumerate(axes):
        for i, source in enumerate(results.source.values):
            at = results.isel(layer=layer, head=head, source=i)
            ax.errorbar(at.checkpoint, at.head_llc, 2 * at.head_llc_std_error, label=str(source), linewidth=1.2)
    axes[0, 0].legend(fontsize=6)
    return Picture("heads", figure, "Refined LLC of every head over training, on every source (2 s.e.).")


def _cluster_story(groups: Clusters | None) -> list[str]:
    if groups is None:
        return ["Not clustered: too few heads, or a chain diverged."]
    return [
        f"Ward clustering of the curves on the training data finds {groups.labels.max() + 1} clusters, silhouette "
        f"{groups.silhouette:.2f} (below 0.25 there is no structure to speak of)."
    ]


def _cluster_table(results: xarray.Dataset, groups: Clusters | None) -> Table | None:
    if groups is None:
        return None
    names, curves = np.asarray(_names(results)), _curves(results, "head_llc")
    rows = [
        [str(label), ", ".join(names[groups.labels == label]), f"{curves[groups.labels == label].mean():.2f}"]
        for label in range(groups.labels.max() + 1)
    ]
    return Table(["cluster", "heads", "mean refined LLC"], rows)


def _hill_story(hills: RiseThenFall | None) -> list[str]:
    if hills is None:
        return ["Not tested: fewer than 3 checkpoints, or a chain diverged."]
    return [
        f"{int(hills.found.sum())} of {len(hills.found)} heads rise and later fall by more than {hills.threshold:.1f} "
        "standard errors, which a curve that never falls would show in one case of twenty at most."
    ]


def _hill_table(results: xarray.Dataset, hills: RiseThenFall | None) -> Table | None:
    if hills is None or not hills.found.any():
        return None
    steps = results.checkpoint.values
    rows = [
        [
            _names(results)[i], f"{int(steps[hills.start[i]]):,}", f"{int(steps[hills.peak[i]]):,}",
            f"{int(steps[hills.end[i]]):,}", f"{hills.rise[i]:.2f}", f"{hills.fall[i]:.2f}", f"{hills.score[i]:.1f}",
        ]
        for i in np.flatnonzero(hills.found)
    ]  # fmt: skip
    return Table(["head", "from", "peak", "low", "rise", "fall", "standard errors"], rows)


def _whole_table(results: xarray.Dataset) -> Table:
    sources = [str(source) for source in results.source.values]
    rows = []
    for step in results.checkpoint.values:
        at = results.sel(checkpoint=step)
        cells = [
            f"{float(at.whole_llc.isel(source=i)):.1f} ± {float(at.whole_llc_std_error.isel(source=i)):.1f}"
            for i in range(len(sources))
        ]
        rows.append([f"{int(step):,}", *cells])
    return Table(["step", *sources], rows)
