"""Figures of `deep-linear-networks`, from the stored results."""

import numpy as np
import xarray

from configs.deep_linear_networks import DeepLinearNetworks, Setting
from experiments.deep_linear_networks.accuracy import accuracy
from slt_jax.plotting import plot_estimates_against_truth
from slt_lab.page import Picture

__all__ = ["draw_figures"]


def draw_figures(results: xarray.Dataset, config: DeepLinearNetworks) -> dict[str, list[Picture]]:
    """The figures of every class."""
    found = {}
    for name in map(str, results["class"].values):
        at = results.sel({"class": name})
        found[name] = [
            _against_truth(at, name),
            _error_against_gradients(at, name),
            *_local_or_global(at, name),
            *_dependence(at, name, config),
            *_long_courses(at, name, config),
        ]
    return found


def _settings(results: xarray.Dataset) -> list[str]:
    return [str(s) for s in results.setting.values if results.measured.sel(setting=s).any()]


def _num_steps(config: DeepLinearNetworks, setting: Setting, name: str) -> int:
    return setting.num_steps or next(one.study_steps for one in config.classes if one.name == name)


def _against_truth(results: xarray.Dataset, name: str) -> Picture:
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    shown = [s for s in ("study", "best") if s in _settings(results)] or _settings(results)[:2]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.6 * len(shown), 4.2), squeeze=False, sharex=True, sharey=True)
    for ax, setting in zip(axes[0], shown, strict=True):
        at = results.sel(setting=setting)
        for certified, label in ((True, "bounds meet"), (False, "theorem's value")):
            here = ((at.certified == certified) & at.llc.notnull()).values
            if here.any():
                points = (at.llc.values[here], np.nan_to_num(at.llc_std_error.values[here]))
                plot_estimates_against_truth(ax, at.upper.values[here], {label: points})
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_locator(NullLocator())
        ax.set_title(f"{name}: {setting}")
    for ax in axes[0, 1:]:
        ax.set_ylabel("")
    return Picture(f"{name}-truth", figure, f"Class {name}: estimates against the exact local value.")


def _error_against_gradients(results: xarray.Dataset, name: str) -> Picture:
    """Median |relative error| of the running last half of each chain, at certified networks."""
    import matplotlib.pyplot as plt
    from matplotlib import color_sequences

    figure, ax = plt.subplots(figsize=(7.4, 4.2), layout="constrained")
    twenty = color_sequences["tab20"]
    ax.set_prop_cycle(color=twenty[::2] + twenty[1::2])
    for setting in _settings(results):
        at = results.sel(setting=setting)
        here = (at.certified & at.measured).values
        course, truth = at.llc_course.transpose("seed", "part").values[here], at.upper.values[here]
        parts = course.shape[1]
        total = float(at.gradient_evaluations.values[here].mean())
        counts = np.arange(2, parts + 1, 2)
        errors = [
            accuracy(course[:, count // 2 : count].mean(axis=1), truth)["median_abs_relative_error"] for count in counts
        ]
        ax.plot(total * counts / parts, errors, marker="o", markersize=3, label=setting)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("gradient evaluations (batches of 500)")
    ax.set_ylabel("median |relative error|,\nlast half of the chain so far")
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return Picture(f"{name}-gradients", figure, f"Class {name}: error against gradient evaluations.")


def _local_or_global(results: xarray.Dataset, name: str) -> list[Picture]:
    """Where the local value differs from Aoyagi's: which one do the estimates side with?"""
    import matplotlib.pyplot as plt

    if "best" not in _settings(results):
        return []
    at = results.sel(setting="best")
    here = ((at.upper != at.aoyagi) & at.llc.notnull()).values
    if not here.any():
        return []
    truth = at.upper.values[here]
    deepest = at.aoyagi.values[here] / truth
    order = np.argsort(deepest)[:40]
    deepest, truth = deepest[order], truth[order]
    estimate = at.llc.values[here][order] / truth
    error = np.nan_to_num(at.llc_std_error.values[here][order]) / truth
    figure, ax = plt.subplots(figsize=(7.0, 3.8))
    position = np.arange(len(truth))
    ax.axhline(1.0, color="black", linewidth=0.9, label="local value at w*")
    ax.plot(position, deepest, "x", color="#b5651d", markersize=5, label="Aoyagi's value, deepest point")
    ax.errorbar(position, estimate, 2 * error, fmt="o", markersize=3.5, color="#1f5fa8", label="estimate, 2 s.e.")
    ax.set_ylim(min(0.4, float(deepest.min()) - 0.05), 1.3)
    ax.set_xlabel("networks whose two values differ, most different first")
    ax.set_ylabel("relative to the local value at w*")
    ax.legend(fontsize=8)
    caption = f"Class {name}: estimates (best) where the local value differs from that of the deepest point."
    return [Picture(f"{name}-local", figure, caption)]


def _dependence(results: xarray.Dataset, name: str, config: DeepLinearNetworks) -> list[Picture]:
    """Courses of λ̂/λ by network, where the settings differ in nβ and localization alone."""
    import matplotlib.pyplot as plt

    chosen = {setting.name: setting for setting in config.settings}
    names = [s for s in _settings(results) if s.startswith("nbeta-x")]
    if not names:
        return []
    factors = sorted({chosen[s].nbeta_factor for s in names})
    seeds = [seed for seed in results.seed.values if results.upper.sel(seed=seed).notnull()]
    figure, axes = plt.subplots(
        len(factors), len(seeds), figsize=(2.5 * len(seeds), 2.1 * len(factors)), sharex=True, sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for (row, column), ax in np.ndenumerate(axes):
        at_seed = results.sel(seed=seeds[column])
        truth = float(at_seed.upper)
        for setting in names:
            if chosen[setting].nbeta_factor != factors[row]:
                continue
            course = at_seed.llc_course.sel(setting=setting).values / truth
            steps = (np.arange(len(course)) + 0.5) / len(course) * _num_steps(config, chosen[setting], name)
            ax.plot(steps, course, linewidth=1.2, label=f"γ = {chosen[setting].localization:g}")
        ax.axhline(1.0, color="0.4", linewidth=0.8)
        ax.axhline(float(at_seed.aoyagi) / truth, color="#b5651d", linestyle=":", linewidth=1.0, label="Aoyagi")
        ax.axhline(
            float(at_seed.half_hessian_rank) / truth, color="0.5", linestyle="--", linewidth=0.9, label="½ Hessian rank"
        )
        if row == 0:
            ax.set_title(f"seed {seeds[column]}, λ = {truth:g}", fontsize=9)
        if column == 0:
            ax.set_ylabel(f"nβ = {factors[row]:g} n/log n\nestimate / λ", fontsize=8)
        if row == len(factors) - 1:
            ax.set_xlabel("sampling step", fontsize=8)
    axes[0, 0].legend(fontsize=6)
    axes[0, 0].set_ylim(0, 1.4)
    caption = f"Class {name}: what is measured depends on localization, time and nβ together."
    return [Picture(f"{name}-dependence", figure, caption)]


def _long_courses(results: xarray.Dataset, name: str, config: DeepLinearNetworks) -> list[Picture]:
    """The course of λ̂ along the chains of setting `long`, a panel per network."""
    import matplotlib.pyplot as plt

    if "long" not in _settings(results):
        return []
    (setting,) = (one for one in config.settings if one.name == "long")
    num_steps = _num_steps(config, setting, name)
    at = results.sel(setting="long")
    seeds = [seed for seed in at.seed.values if at.measured.sel(seed=seed)]
    rows = -(-len(seeds) // 6)
    figure, axes = plt.subplots(
        rows, 6, figsize=(11, 1.9 * rows), layout="constrained", sharex=True, squeeze=False
    )  # fmt: skip
    for seed, ax in zip(seeds, axes.ravel(), strict=False):
        here = at.sel(seed=seed)
        course = here.llc_course.values
        steps = (np.arange(len(course)) + 0.5) / len(course) * num_steps
        ax.plot(steps / 1000, course, label="estimate")
        ax.axhline(float(here.upper), color="0.4", linewidth=0.9, label="local")
        ax.axhline(float(here.aoyagi), color="#b5651d", linestyle=":", linewidth=1.1, label="Aoyagi")
        ax.set_title(f"seed {seed}", fontsize=8)
        ax.tick_params(labelsize=7)
    for ax in axes.ravel()[len(seeds) :]:
        ax.set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("thousand steps", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("LLC", fontsize=8)
    axes[0, 0].legend(fontsize=6)
    caption = (
        f"Class {name}, nβ = {setting.nbeta_factor:g} n/log n: the estimate along one chain, means over twentieths of it. Most "
        "chains settle at the local value; some then leave it for a deeper point of the fibre, towards Aoyagi's."
    )
    return [Picture(f"{name}-courses", figure, caption)]
