"""Figures of what is sampled: estimates beside exact values, the way to λ, free energies, chains that leave."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import xarray

from configs.programs import Programs
from slt_jax.plotting import STAGE_INKS
from slt_lab.page import Picture

__all__ = [
    "crossing",
    "free_energy_figure",
    "leading_order",
    "leaving_figure",
    "measured_figure",
    "running_mean",
    "way_figure",
]

COLORS = (*STAGE_INKS, "#444444", "#b8860b")
ASSUMED = "uniform prior, NLL"


def measured_figure(config: Programs, results: xarray.Dataset) -> Picture:
    """Estimates relative to λ, a row for each machine and nβ."""
    import matplotlib.pyplot as plt

    cases, nbetas = results.case.values, results.nbeta.values
    count = len(cases) * len(nbetas)
    figure, ax = plt.subplots(figsize=(8, 0.34 * count + 1.5), layout="constrained")
    rows, labels = np.arange(count)[::-1], []
    for row, (i, j) in zip(rows, np.ndindex(len(cases), len(nbetas)), strict=True):
        at = results.isel(case=i, nbeta=j)
        scale = float(at.coefficient)
        labels.append(f"{at.case_title.item()}, nβ = {nbetas[j]:g}")
        first = row == rows[0]
        ax.plot(
            float(at.asymptotic) / scale,
            row,
            "|",
            color="0.5",
            markersize=11,
            label="λ - (m - 1)/log nβ" if first else None,
        )
        ax.plot(
            float(at.finite_value) / scale,
            row,
            "d",
            color="black",
            markersize=5,
            label="value at this nβ and γ" if first else None,
        )
        for k, sampler in enumerate(results.sampler.values):
            one = at.isel(sampler=k)
            ax.errorbar(
                float(one.estimate_mean) / scale, row + 0.2 - 0.4 * k, xerr=3 * float(one.estimate_std_error) / scale,
                fmt="os"[k], color=COLORS[k], markersize=3.5, label=str(sampler) if first else None,
            )  # fmt: skip
    ax.axvline(1, color="0.8", zorder=0)
    ax.set_yticks(rows, labels, fontsize=8)
    ax.set_title(_setting(config), fontsize=9)
    ax.set_xlabel("in units of λ (bars: 3 standard errors)")
    figure.legend(fontsize=8, loc="outside upper center", ncols=4)
    caption = (
        f"Measured nβE[L] beside what it should be, in units of λ; γ = {config.localization:g} on amplitudes, "
        f"{ASSUMED}, semantics with each name."
    )
    return Picture("measured", figure, caption)


def way_figure(config: Programs, results: xarray.Dataset) -> Picture:
    """nβE[L] in units of λ along the ladder."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    nbeta = results.rung_nbeta.values
    for i, color in zip(range(results.sizes["case"]), COLORS, strict=False):
        at = results.isel(case=i)
        value, error = at.course_value / at.coefficient, at.course_value_error / at.coefficient
        label = f"{at.case_title.item()}: λ = {at.coefficient_name.item()}, m = {int(at.multiplicity)}"
        ax.plot(nbeta, value, color=color, linewidth=1.2, label=label)
        ax.fill_between(nbeta, value - 2 * error, value + 2 * error, color=color, alpha=0.2, linewidth=0)
    ax.axhline(1, color="0.5", linestyle="--", linewidth=0.9)
    ax.set_xscale("log")
    ax.set_ylim(0, 1.15)
    ax.set_title(_setting(config), fontsize=9)
    ax.set_xlabel("nβ")
    ax.set_ylabel("nβE[L] in units of λ")
    ax.legend(fontsize=7, loc="lower right")
    caption = (
        f"The way to λ: sequential Monte Carlo at γ = {config.localization:g} ({ASSUMED}); bands: 2 standard errors. "
        "Errors that are fatal only together are at first switched off by the localising Gaussian, which keeps each of "
        "them small."
    )
    return Picture("way", figure, caption)


def _setting(config: Programs) -> str:
    return f"{ASSUMED}, γ = {config.localization:g} on amplitudes; semantics with each name"


def crossing(nbeta: np.ndarray, difference: np.ndarray) -> float:
    """The nβ after which `difference` stays negative, interpolated in log nβ; NaN if it ends positive, 0 if it never was."""
    positive = np.flatnonzero(difference >= 0)
    if len(positive) == 0:
        return 0.0
    at = int(positive[-1])
    if at == len(nbeta) - 1:
        return float("nan")
    share = difference[at] / (difference[at] - difference[at + 1])
    return float(nbeta[at] * (nbeta[at + 1] / nbeta[at]) ** share)


def leading_order(nbeta: np.ndarray, coefficient: float, multiplicity: int) -> np.ndarray:
    """λ log nβ - (m - 1) log log nβ."""
    return coefficient * np.log(nbeta) - (multiplicity - 1) * np.log(np.log(nbeta))


def free_energy_figure(config: Programs, results: xarray.Dataset) -> Picture:
    """Free energy of the longer program minus that of the shorter one; what λ and m predict, joined at the last rung."""
    import matplotlib.pyplot as plt

    nbeta, (short, long) = results.rung_nbeta.values, (results.isel(rival=k) for k in (0, 1))
    difference = (long.rivals_free_energy - short.rivals_free_energy).values
    error = np.hypot(long.rivals_free_energy_error, short.rivals_free_energy_error).values
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
    for one, color in ((short, COLORS[1]), (long, COLORS[0])):
        axes[0].plot(
            nbeta,
            one.rivals_free_energy,
            color=color,
            label=f"{one.rivals_title.item()}: λ = {float(one.rivals_coefficient):.2f}",
        )
    axes[0].set_ylabel("free energy F (nats)")
    axes[0].legend(fontsize=8)
    axes[1].plot(nbeta, difference, color="black", label="sampled")
    axes[1].fill_between(nbeta, difference - 2 * error, difference + 2 * error, color="0.8", linewidth=0)
    late = nbeta > np.e
    order = [
        leading_order(nbeta[late], float(one.rivals_coefficient), int(one.rivals_multiplicity)) for one in (long, short)
    ]
    gap = order[0] - order[1]
    axes[1].plot(
        nbeta[late], gap + difference[-1] - gap[-1], "--", color=COLORS[2], label="slope by λ and m, joined at the end"
    )
    axes[1].axhline(0, color="0.6", linewidth=0.8)
    low, high = difference.min(), difference.max()
    axes[1].set_ylim(low - 0.15 * (high - low), high + 0.3 * (high - low))
    figure.suptitle(_setting(config), fontsize=9)
    axes[1].set_ylabel("F of the longer - F of the shorter (nats)")
    axes[1].legend(fontsize=8)
    for ax in axes:
        ax.set_xscale("log")
        ax.set_xlabel("nβ")
    where = crossing(nbeta, difference)
    if where > 0:
        axes[1].axvline(where, color="0.6", linestyle=":")
    caption = (
        f"Two programs for one function: local free energies by sequential Monte Carlo, γ = {config.localization:g}, "
        f"{ASSUMED}. Below zero the longer program has more posterior mass. Band: 2 standard errors."
    )
    return Picture("free_energy", figure, caption)


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over windows of `width` draws, along the last axis."""
    width = min(width, values.shape[-1])
    total = np.cumsum(np.concatenate([np.zeros((*values.shape[:-1], 1)), values], axis=-1), axis=-1)
    return (total[..., width:] - total[..., :-width]) / width


def leaving_figure(config: Programs, results: xarray.Dataset) -> Picture:
    """nβL, and λ of the nearest program, along chains under a weak and under a strong localisation."""
    import matplotlib.pyplot as plt

    settings = asdict(config.leaving)
    values: Sequence[float] = results.localization.values.tolist()
    figure, axes = plt.subplots(2, len(values), figsize=(10, 4.6), layout="constrained", sharex=True, sharey="row")
    for column, localization in zip(axes.T, values, strict=True):
        at = results.sel(localization=localization)
        width = max(1, at.sizes["draw"] // 20)
        smooth = running_mean(at.leaving_energy.values, width)
        steps = settings["thinning"] * (np.arange(at.sizes["draw"]) + 1)
        for chain, color in zip(range(at.sizes["chain"]), COLORS, strict=False):
            column[0].plot(steps[width - 1 :], smooth[chain], color=color, linewidth=0.8)
            column[1].plot(steps, at.leaving_coefficient.values[chain], ".", color=color, markersize=2)
        column[0].set_title(f"γ = {localization:g}", fontsize=9)
        column[1].set_xlabel("step of the chain")
    axes[0, 0].set_ylabel(f"nβL, mean of {width} draws")
    axes[1, 0].set_ylim(0, 1.1 * np.nanmax(results.leaving_coefficient.values))
    figure.suptitle(f"from {settings['case']}: nβ = {settings['nbeta']:g}, t = 3, markov, {ASSUMED}", fontsize=9)
    axes[1, 0].set_ylabel("λ of the nearest program")
    caption = (
        f"Chains from one program ({settings['case']}, t = 3, markov, {ASSUMED}) at nβ = {settings['nbeta']:g}. Nearest program: the likeliest value of every simplex; no "
        "point where it does not solve the problem."
    )
    return Picture("leaving", figure, caption)
