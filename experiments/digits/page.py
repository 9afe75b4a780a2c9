"""The showing half of `digits`: figures, tables and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.digits import Digits
from experiments.digits.gather import NUTS
from slt_jax.plotting import LLC_COLOR, plot_traces
from slt_lab.page import Page, Picture, Section, Table

__all__ = ["page"]


def page(results: xarray.Dataset, config: Digits) -> Page:
    """The page of a run."""
    sections = [
        Section("The network", [_network_story(results, config)]),
        Section(
            "Its LLC, by every sampler",
            [
                "'Distance' is the difference from NUTS in joint standard errors; 'gradients' are passes over all the data, "
                "burn-in included (for NUTS without its adaptation).",
                _agreement(results),
            ],
            _table(results),
            [_estimates_figure(results), _traces_figure(results, config.sampling.thinning)],
            headline=_headline(results),
        ),
    ]
    lead = "One network trained on scikit-learn's digits, and its LLC by every sampler on the same local posterior."
    lost = int(results.llc.isnull().sum())
    warnings = [f"{lost} estimates are NaN: a chain diverged."] if lost else []
    return Page("digits", lead, sections, warnings, _summary(results))


def _distance(results: xarray.Dataset) -> np.ndarray:
    """Difference from NUTS in joint standard errors, `(sampler,)`."""
    reference = results.sel(sampler=NUTS)
    joint = np.hypot(results.llc_std_error, reference.llc_std_error)
    return ((results.llc - reference.llc) / joint).values


def _summary(results: xarray.Dataset) -> dict[str, Any]:
    distance = _distance(results)
    rows = {}
    for i, name in enumerate(results.sampler.values):
        at = results.isel(sampler=i)
        numbers = {
            "mean": float(at.llc),
            **{key: float(at[f"llc_{key}"]) for key in ("std_error", "rhat", "ess")},
            **{key: float(at[key]) for key in ("step_size", "gradients", "seconds")},
        }
        rows[str(name)] = {**numbers, "distance_from_nuts": float(distance[i])}
    names = ("num_parameters", "nbeta", "loss", "gradient_norm", "train_accuracy", "test_accuracy", "nuts_divergences")
    return {**{name: float(results[name]) for name in names}, "samplers": rows}


def _network_story(results: xarray.Dataset, config: Digits) -> str:
    network = config.network
    return (
        f"64 pixels, {network.hidden_units} tanh units, 10 classes: {int(results.num_parameters)} parameters, trained on "
        f"{network.num_examples} images to a loss of {float(results.loss):.2g} nats (gradient norm "
        f"{float(results.gradient_norm):.1g}); accuracy {float(results.train_accuracy):.1%} there and "
        f"{float(results.test_accuracy):.1%} on the other images. nβ = {float(results.nbeta):.1f}, γ = "
        f"{config.sampling.localization:g}."
    )


def _agreement(results: xarray.Dataset) -> str:
    distance, names = np.abs(_distance(results)), results.sampler.values
    far = [f"{name} ({d:.1f})" for name, d in zip(names, distance, strict=True) if not d <= 2]
    agree = f"{len(names) - 1 - len(far)} of {len(names) - 1} settings agree with NUTS within two joint standard errors"
    return f"{agree}." if not far else f"{agree}; not so: {', '.join(far)}."


def _headline(results: xarray.Dataset) -> str:
    reference = results.sel(sampler=NUTS)
    near = int((np.abs(_distance(results)) <= 2).sum()) - 1  # NUTS itself is at no distance
    return f"NUTS {float(reference.llc):.1f} ± {float(reference.llc_std_error):.1f}; {near} of {results.sizes['sampler'] - 1} settings within 2 s.e."


def _table(results: xarray.Dataset) -> Table:
    rows = []
    for name, distance in zip(results.sampler.values, _distance(results), strict=True):
        at = results.sel(sampler=name)
        rows.append(
            [
                str(name), f"{float(at.llc):.2f} ± {float(at.llc_std_error):.2f}",
                "" if name == NUTS else f"{distance:+.1f}", f"{float(at.llc_rhat):.3f}", f"{float(at.llc_ess):.0f}",
                f"{float(at.gradients):,.0f}", f"{float(at.seconds):.0f}",
            ]
        )  # fmt: skip
    return Table(["sampler", "LLC", "distance", "R-hat", "ESS", "gradients", "seconds"], rows)


def _estimates_figure(results: xarray.Dataset) -> Picture:
    import matplotlib.pyplot as plt

    count = results.sizes["sampler"]
    figure, ax = plt.subplots(figsize=(7, 0.4 * count + 1), layout="constrained")
    rows = np.arange(count)[::-1]
    reference = results.sel(sampler=NUTS)
    middle, width = float(reference.llc), 2 * float(reference.llc_std_error)
    ax.axvspan(middle - width, middle + width, color="0.92")
    ax.axvline(middle, color="0.5", linewidth=0.9)
    ax.errorbar(results.llc, rows, xerr=2 * results.llc_std_error, fmt="o", markersize=4, color=LLC_COLOR, capsize=2)
    ax.set_yticks(rows, [str(name) for name in results.sampler.values])
    ax.set_xlabel("LLC (bars: 2 standard errors; grey: NUTS)")
    return Picture("estimates", figure, "The LLC of one network by every sampler, beside NUTS.")


def _traces_figure(results: xarray.Dataset, thinning: int) -> Picture:
    import matplotlib.pyplot as plt

    names = results.sampled.values
    columns = 3
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.4 * columns, 2.4 * lines), layout="constrained", squeeze=False, sharey=True
    )
    reference = float(results.sel(sampler=NUTS).llc)
    for ax in axes.ravel()[len(names) :]:
        ax.axis("off")
    for name, ax in zip(names, axes.ravel(), strict=False):
        at = results.sel(sampled=name)
        plot_traces(ax, at.llc_burnin_trace.values, at.llc_trace.values, thinning=thinning)
        ax.axhline(reference, color="black", linestyle="--", linewidth=0.8)
        ax.set_title(str(name), fontsize=9)
    caption = "Running mean of nβ(L - L*) along every chain, burn-in grey; dashed: NUTS."
    return Picture("traces", figure, caption)
