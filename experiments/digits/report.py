"""The showing half of `digits`: figures, tables and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from experiments.digits.measure import NUTS
from experiments.page import FigureFile, Section, Table, save_figure, write_page
from experiments.run_folder import RunFolder
from slt_jax.plotting import LLC_COLOR, plot_traces

__all__ = ["report"]


def report(folder: RunFolder) -> None:
    """Write figures, `summary.json` and `report.html`."""
    results = folder.read_results()
    folder.write_summary(_summary(results))
    sections = [
        Section("The network", [_network_story(folder, results)]),
        Section(
            "Its LLC, by every sampler",
            [
                "'Distance' is the difference from NUTS in joint standard errors; 'gradients' are passes over all the data, "
                "burn-in included (for NUTS without its adaptation).",
                _agreement(results),
            ],
            _table(results),
            [_estimates_figure(folder, results), _traces_figure(folder, results)],
        ),
    ]
    lead = "One network trained on scikit-learn's digits, and its LLC by every sampler on the same local posterior."
    lost = int(results["mean"].isnull().sum())
    warnings = [f"{lost} estimates are NaN: a chain diverged."] if lost else []
    write_page(folder, f"digits, config {folder.config_name}", lead, sections, warnings)


def _distance(results: xarray.Dataset) -> np.ndarray:
    """Difference from NUTS in joint standard errors, `(sampler,)`."""
    reference = results.sel(sampler=NUTS)
    joint = np.hypot(results.std_error, reference.std_error)
    return ((results["mean"] - reference["mean"]) / joint).values


def _summary(results: xarray.Dataset) -> dict[str, Any]:
    distance = _distance(results)
    rows = {}
    for i, name in enumerate(results.sampler.values):
        at = results.isel(sampler=i)
        numbers = {
            key: float(at[key]) for key in ("mean", "std_error", "rhat", "ess", "step_size", "gradients", "seconds")
        }
        rows[str(name)] = {**numbers, "distance_from_nuts": float(distance[i])}
    names = ("num_parameters", "nbeta", "loss", "gradient_norm", "train_accuracy", "test_accuracy", "nuts_divergences")
    return {**{name: float(results[name]) for name in names}, "samplers": rows}


def _network_story(folder: RunFolder, results: xarray.Dataset) -> str:
    network, sampling = folder.config["network"], folder.config["sampling"]
    return (
        f"64 pixels, {network['hidden_units']} tanh units, 10 classes: {int(results.num_parameters)} parameters, trained on "
        f"{network['num_examples']} images to a loss of {float(results.loss):.2g} nats (gradient norm "
        f"{float(results.gradient_norm):.1g}); accuracy {float(results.train_accuracy):.1%} there and "
        f"{float(results.test_accuracy):.1%} on the other images. nβ = {float(results.nbeta):.1f}, γ = "
        f"{sampling['localization']:g}."
    )


def _agreement(results: xarray.Dataset) -> str:
    distance, names = np.abs(_distance(results)), results.sampler.values
    far = [f"{name} ({d:.1f})" for name, d in zip(names, distance, strict=True) if not d <= 2]
    agree = f"{len(names) - 1 - len(far)} of {len(names) - 1} settings agree with NUTS within two joint standard errors"
    return f"{agree}." if not far else f"{agree}; not so: {', '.join(far)}."


def _table(results: xarray.Dataset) -> Table:
    rows = []
    for name, distance in zip(results.sampler.values, _distance(results), strict=True):
        at = results.sel(sampler=name)
        rows.append(
            [
                str(name), f"{float(at['mean']):.2f} ± {float(at.std_error):.2f}",
                "" if name == NUTS else f"{distance:+.1f}", f"{float(at.rhat):.3f}", f"{float(at.ess):.0f}",
                f"{float(at.gradients):,.0f}", f"{float(at.seconds):.0f}",
            ]
        )  # fmt: skip
    return Table(["sampler", "LLC", "distance", "R-hat", "ESS", "gradients", "seconds"], rows)


def _estimates_figure(folder: RunFolder, results: xarray.Dataset) -> FigureFile:
    import matplotlib.pyplot as plt

    count = results.sizes["sampler"]
    figure, ax = plt.subplots(figsize=(7, 0.4 * count + 1), layout="constrained")
    rows = np.arange(count)[::-1]
    reference = results.sel(sampler=NUTS)
    middle, width = float(reference["mean"]), 2 * float(reference.std_error)
    ax.axvspan(middle - width, middle + width, color="0.92")
    ax.axvline(middle, color="0.5", linewidth=0.9)
    ax.errorbar(results["mean"], rows, xerr=2 * results.std_error, fmt="o", markersize=4, color=LLC_COLOR, capsize=2)
    ax.set_yticks(rows, [str(name) for name in results.sampler.values])
    ax.set_xlabel("LLC (bars: 2 standard errors; grey: NUTS)")
    return save_figure(folder, "estimates", figure, "The LLC of one network by every sampler, beside NUTS.")


def _traces_figure(folder: RunFolder, results: xarray.Dataset) -> FigureFile:
    import matplotlib.pyplot as plt

    names = results.sampled.values
    columns = 3
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.4 * columns, 2.4 * lines), layout="constrained", squeeze=False, sharey=True
    )
    reference = float(results.sel(sampler=NUTS)["mean"])
    for ax in axes.ravel()[len(names) :]:
        ax.axis("off")
    for name, ax in zip(names, axes.ravel(), strict=False):
        at = results.sel(sampled=name)
        thinning = folder.config["sampling"]["thinning"]
        plot_traces(ax, at.burnin_trace.values, at.trace.values, thinning=thinning)
        ax.axhline(reference, color="black", linestyle="--", linewidth=0.8)
        ax.set_title(str(name), fontsize=9)
    return save_figure(
        folder, "traces", figure, "Running mean of nβ(L - L*) along every chain, burn-in grey; dashed: NUTS."
    )
