"""The showing half of `transient-ridge`: figures, table and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.transient_ridge import TransientRidge
from slt_jax.analysis.essential_dynamics import principal_trajectory
from slt_jax.plotting import LLC_COLOR, plot_curves
from slt_lab.page import Page, Picture, Section, Table

__all__ = ["page", "rise_and_fall"]

RISE = 1.05  # a loss on fresh tasks that ends this much above its minimum has risen again


def page(results: xarray.Dataset, config: TransientRidge) -> Page:
    """The page of a run."""
    del config
    rows = rise_and_fall(results)
    transient = [f"{row['num_tasks']:,}" for row in rows if row["transient"]]
    verdict = (
        f"Ridge regression was learned and given up again for M = {', '.join(transient)}."
        if transient
        else "For none of these M did the loss on fresh tasks rise again after its minimum."
    )
    lead = (
        "A transformer is trained on sequences of M linear-regression tasks. Two predictors bound what it can learn: ridge "
        "regression, right for any task, and dMMSE, right for the M tasks alone. Which one does it learn, and does it stay? "
        "(arXiv 2501.17745)"
    )
    sections = [
        Section(
            "Loss on fresh tasks",
            [verdict],
            _table(rows),
            [_losses(results)],
            f"risen again: {len(transient)} of {len(rows)} task sets",
        ),
        Section("Near which predictor", figures=[_distances(results)]),
        Section("Joint path of all runs", figures=[_joint_path(results)]),
        Section(
            "Complexity at the end",
            figures=[_complexity(results)],
            headline=f"LLC {rows[0]['llc']:.0f} with {rows[0]['num_tasks']:,} tasks, {rows[-1]['llc']:.0f} with {rows[-1]['num_tasks']:,}",
        ),
    ]
    count = int(results.llc_diverged.sum())
    return Page(
        "transient-ridge", lead, sections, warnings=[f"{count} chains diverged."] if count else [],
        summary={"task_sets": rows, "diverged_chains": count},
    )  # fmt: skip


def rise_and_fall(results: xarray.Dataset) -> list[dict[str, Any]]:
    """For every M: the minimum of the loss on fresh tasks, the loss at the end, and whether ridge was given up again."""
    rows = []
    for num_tasks in results.num_tasks.values.tolist():
        at = results.sel(num_tasks=num_tasks)
        fresh = at.loss_fresh
        lowest = int(np.argmin(fresh.values))
        rows.append({
            "num_tasks": num_tasks, "lowest_step": int(at.step.values[lowest]), "lowest_loss_fresh": float(fresh.values[lowest]),
            "final_loss_fresh": float(fresh.values[-1]), "final_loss_trained": float(at.loss_trained[-1]),
            "ridge_loss_fresh": float(at.ridge_loss_fresh[0]), "dmmse_loss_fresh": float(at.dmmse_loss_fresh[0]),
            "transient": bool(fresh.values[-1] > RISE * fresh.values[lowest]), "llc": float(at.llc[0]),
            "llc_std_error": float(at.llc_std_error[0]), "llc_drift": float(at.llc_drift[0]),
        })  # fmt: skip
    return rows


def _table(rows: list[dict[str, Any]]) -> Table:
    head = [
        "tasks M",
        "lowest loss on fresh tasks",
        "at step",
        "at the end",
        "ridge",
        "dMMSE",
        "risen again",
        "LLC",
        "± s.e.",
    ]
    return Table(
        head,
        [
            [
                f"{row['num_tasks']:,}", f"{row['lowest_loss_fresh']:.3f}", f"{row['lowest_step']:,}",
                f"{row['final_loss_fresh']:.3f}", f"{row['ridge_loss_fresh']:.3f}", f"{row['dmmse_loss_fresh']:.3f}",
                "yes" if row["transient"] else "no", f"{row['llc']:.1f}", f"{row['llc_std_error']:.1f}",
            ]
            for row in rows
        ],
    )  # fmt: skip


def _by_tasks(results: xarray.Dataset, name: str) -> dict[str, np.ndarray]:
    return {f"{num_tasks:,}": results[name].sel(num_tasks=num_tasks).values for num_tasks in results.num_tasks.values}


def _losses(results: xarray.Dataset) -> Picture:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for ax, where in zip(axes, ("fresh", "trained"), strict=True):
        plot_curves(
            ax, results.step.values, _by_tasks(results, f"loss_{where}"), ylabel="mean squared error", colormap="viridis",
            legend_title="tasks M",
            reference_lines={"ridge": float(results.ridge_loss_fresh.mean())} if where == "fresh" else None,
        )  # fmt: skip
        ax.set_title(f"on {where} tasks" if where == "fresh" else "on the training tasks", fontsize=10)
    caption = "Loss over training on tasks never seen (left) and on the training tasks (right)."
    return Picture("losses", figure, caption)


def _distances(results: xarray.Dataset) -> Picture:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for ax, name in zip(axes, ("ridge", "dmmse"), strict=True):
        plot_curves(
            ax, results.step.values, _by_tasks(results, f"to_{name}_fresh"), ylabel="mean squared distance",
            colormap="viridis", legend_title="tasks M",
        )  # fmt: skip
        ax.set_yscale("log")
        ax.set_title(f"to {'ridge regression' if name == 'ridge' else 'dMMSE of its own tasks'}", fontsize=10)
    return Picture("distances", figure, "Distance of the predictions on fresh tasks to both predictors.")


def _joint_path(results: xarray.Dataset) -> Picture:
    import matplotlib
    import matplotlib.pyplot as plt

    joint = principal_trajectory(results.outputs.values, 2)
    figure, ax = plt.subplots(figsize=(7, 5.2), layout="constrained")
    colors = matplotlib.colormaps["viridis"](np.linspace(0.1, 0.9, results.num_tasks.size))
    for path, num_tasks, color in zip(joint.coordinates, results.num_tasks.values.tolist(), colors, strict=True):
        ax.plot(path[:, 0], path[:, 1], color=color, linewidth=1.3, label=f"M = {num_tasks:,}")
        ax.plot(*path[-1], "o", color=color, markersize=5)
        ax.plot(
            *joint.project(results.dmmse_outputs.sel(num_tasks=num_tasks).values[0]), "^", color=color, markersize=7
        )
    ridge = joint.project(results.ridge_outputs.values[0, 0])
    ax.plot(*ridge, "*", color="black", markersize=13, label="ridge regression")
    ax.plot([], [], "^", color="0.5", label="dMMSE of that M")
    ax.set_xlabel(f"component 1 ({joint.explained[0]:.0%} of the variance)")
    ax.set_ylabel(f"component 2 ({joint.explained[1]:.0%})")
    ax.legend(fontsize=8)
    caption = (
        "Predictions on fixed sequences of fresh tasks, all runs in one set of principal components; dots: the end."
    )
    return Picture("joint_path", figure, caption)


def _complexity(results: xarray.Dataset) -> Picture:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    last = results.isel(checkpoint=-1)
    ax.errorbar(
        results.num_tasks.values,
        last.llc.values,
        yerr=2 * last.llc_std_error.values,
        marker="o",
        capsize=2,
        color=LLC_COLOR,
    )
    ax.set_xscale("log", base=2)
    ax.set_xlabel("tasks M")
    ax.set_ylabel("LLC at the end (bars: 2 standard errors)")
    return Picture("complexity", figure, "Local learning coefficient at the end of training.")
