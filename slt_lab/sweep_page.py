"""The report of a sweep: one table of all its runs, one figure of their LLCs with a band over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slt_lab.errors import UserError
from slt_lab.overview import state_of
from slt_lab.page import STYLE, Page, Picture, Section, Table, render, save_picture
from slt_lab.records import write_text
from slt_lab.results import read_results
from slt_lab.sweep import Run, Sweep, read_sweep

if TYPE_CHECKING:
    import xarray

__all__ = ["report_sweep"]

SEED_FIELDS = ("seed", "seeds")


def report_sweep(folder: Path) -> Path:
    """Write `report.html` into the folder of a sweep; returns its path.

    Raises:
        UserError: if the sweep has no runs, or its record is damaged.
    """
    sweep = read_sweep(folder)
    results = {run: _results(run) for run in sweep.runs}
    known = {run: found for run, found in results.items() if found is not None and "llc" in found}
    text = (
        f"{len(known)} of {len(sweep.runs)} runs have results. The LLC at the last checkpoint, with its own standard error; in the "
        "figure, a band is the mean over seeds and two standard errors of that mean."
    )
    figures = [_figure(known)] if known else []
    page = Page(
        f"{folder.name}: a sweep of {Path(sweep.experiment).stem}, config {sweep.config}", text,
        [Section("Runs", table=_table(sweep, known)), *([Section("LLC", figures=figures)] if figures else [])],
    )  # fmt: skip
    images = [save_picture(folder, picture) for picture in figures]
    write_text(
        folder / "report.html",
        render(page, {picture.name: image for picture, image in zip(figures, images, strict=True)}, "", ""),
    )
    return folder / "report.html"


def _results(run: Run) -> "xarray.Dataset | None":
    try:
        return read_results(run.folder)
    except UserError:
        return None


def _curves(results: "xarray.Dataset") -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Label -> (steps, LLC, standard error) of every subject of a run."""
    llc, error = results.llc, results.llc_std_error
    others = [dim for dim in llc.dims if dim != "checkpoint"]
    found = {}
    for index in np.ndindex(*(llc.sizes[dim] for dim in others)):
        place = dict(zip(others, index, strict=True))
        label = ", ".join(f"{dim.replace('_', ' ')} {llc[dim].values[i]}" for dim, i in place.items() if dim != "seed")
        name = label + (f" #{llc['seed'].values[place['seed']]}" if "seed" in place else "")
        here = llc.isel(place)
        known = np.isfinite(here.values)
        found[name] = (here.checkpoint.values[known], here.values[known], error.isel(place).values[known])
    return found


def _table(sweep: Sweep, results: Mapping[Run, "xarray.Dataset"]) -> Table:
    rows = []
    for run in sweep.runs:
        state = state_of(run.folder)
        if run not in results:
            rows.append([run.label, state.state or "not started", "", "", "", ""])
            continue
        for name, (steps, llc, error) in _curves(results[run]).items():
            last = [f"{int(steps[-1]):,}", f"{llc[-1]:.2f}", f"{error[-1]:.2f}"] if len(steps) else ["", "", ""]
            rows.append([run.label, state.state, name.split(" #")[0], *last])
    return Table(["run", "state", "of", "checkpoint", "LLC", "± s.e."], rows)


def _figure(results: Mapping[Run, "xarray.Dataset"]) -> Picture:
    """One line and band for each setting; the runs that differ by their seed alone share it."""
    import matplotlib.pyplot as plt

    groups: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run, found in results.items():
        setting = ", ".join(
            f"{name.rsplit('.', 1)[-1]} {value}" for name, value in run.flags if name not in SEED_FIELDS
        )
        for name, (steps, llc, _) in _curves(found).items():
            label = ", ".join(part for part in (setting, name.split(" #")[0]) if part) or "all runs"
            groups.setdefault(label, []).append((steps, llc))
    with plt.style.context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for label, curves in groups.items():
        _band(ax, label, curves)
    if all(len(steps) and steps[0] > 0 for curves in groups.values() for steps, _ in curves):
        ax.set_xscale("log")
    ax.set_xlabel("training step")
    ax.set_ylabel("local learning coefficient")
    ax.legend(fontsize=8)
    return Picture(
        "llc", figure, "LLC of every setting; bands: mean over seeds ± 2 standard errors of it, thin lines: the seeds."
    )


def _band(ax: Any, label: str, curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    shared = sorted(set.intersection(*(set(steps.tolist()) for steps, _ in curves)))
    values = np.array([[llc[steps == step][0] for step in shared] for steps, llc in curves])
    if not shared:
        return
    (line,) = ax.plot(
        shared, values.mean(0), marker="o", markersize=3, label=f"{label} ({len(curves)} seed{'s' * (len(curves) > 1)})"
    )
    if len(curves) > 1:
        error = 2 * values.std(0, ddof=1) / np.sqrt(len(curves))
        ax.fill_between(
            shared, values.mean(0) - error, values.mean(0) + error, color=line.get_color(), alpha=0.2, linewidth=0
        )
        for steps, llc in curves:
            ax.plot(steps, llc, color=line.get_color(), linewidth=0.6, alpha=0.6)
