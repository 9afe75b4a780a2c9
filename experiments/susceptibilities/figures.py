"""Figures of `susceptibilities`."""

import numpy as np
import xarray

from experiments.susceptibilities.reading import Components
from slt_jax.plotting import STAGE_INKS
from slt_lab.heads import head_name, tidy_log_axis
from slt_lab.page import Picture

__all__ = ["components_figure", "curves_figure", "matrices_figure"]

UNIT = "squared nats"


def curves_figure(at: xarray.Dataset) -> Picture:
    """A panel per head: its susceptibility to every class of tokens over training."""
    import matplotlib.pyplot as plt

    layers, heads = at.sizes["layer"], at.sizes["head"]
    figure, axes = plt.subplots(
        layers, heads, figsize=(2.5 * heads + 0.6, 2.4 * layers + 0.7), layout="constrained", squeeze=False, sharex=True, sharey=True
    )  # fmt: skip
    for (layer, head), ax in np.ndenumerate(axes):
        here = at.isel(layer=layer, head=head)
        for kind, color in zip(at.token_class.values, STAGE_INKS, strict=False):
            one = here.sel(token_class=kind)
            ax.errorbar(
                at.checkpoint.values, one.susceptibility.values, 2 * one.susceptibility_std_error.values, color=color,
                linewidth=1.2, marker="o", markersize=2.5, capsize=1.5, label=str(kind),
            )  # fmt: skip
        ax.axhline(0, color="0.5", linewidth=0.7)
        tidy_log_axis(ax)
        ax.set_title(f"head {head_name(layer, head)}", fontsize=9)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"susceptibility ({UNIT})", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel("training step", fontsize=8)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=at.token_class.size, fontsize=8
    )
    caption = "Every head: susceptibility to the tokens of each class over training, with two standard errors."
    return Picture("curves", figure, caption)


def matrices_figure(at: xarray.Dataset) -> Picture:
    """The response matrix, heads by classes, at up to four checkpoints."""
    import matplotlib.pyplot as plt

    shown = np.unique(np.linspace(0, at.checkpoint.size - 1, min(4, at.checkpoint.size)).astype(int))
    figure, axes = plt.subplots(
        1, len(shown), figsize=(2.4 * len(shown) + 2.2, 4.4), layout="constrained", squeeze=False, sharey=True
    )  # fmt: skip
    values = at.susceptibility.isel(checkpoint=shown)
    reach = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    names = [head_name(layer, head) for layer, head in np.ndindex(at.sizes["layer"], at.sizes["head"])]
    for ax, index in zip(axes[0], shown, strict=True):
        here = at.susceptibility.isel(checkpoint=index)
        matrix = here.transpose("layer", "head", "token_class").values.reshape(len(names), -1)
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
        ax.set_title(f"step {int(at.checkpoint[index]):,}", fontsize=9)
        ax.set_xticks(range(at.token_class.size), at.token_class.values, rotation=35, ha="right", fontsize=7)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylabel("head")
    figure.colorbar(image, ax=axes[0, -1], label=f"susceptibility ({UNIT})")
    return Picture(
        "matrices", figure, "The response matrix, heads by classes of tokens. Blue: expression; red: suppression."
    )


def components_figure(at: xarray.Dataset, found: Components) -> Picture:
    """Paths of the heads in two components of their token susceptibilities, and what the components are."""
    import matplotlib
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=(1.3, 1))
    shares = found.trajectory.explained
    names = [(layer, head) for layer, head in np.ndindex(at.sizes["layer"], at.sizes["head"])]
    maps = [matplotlib.colormaps[name] for name in ("Blues", "Oranges", "Greens", "Purples")]
    for path, (layer, head) in zip(found.trajectory.coordinates, names, strict=True):
        color = maps[layer](np.linspace(0.45, 0.95, at.sizes["head"])[head])
        left.plot(path[:, 0], path[:, 1], color=color, linewidth=1.2, label=head_name(layer, head))
        left.plot(*path[-1, :2], "o", color=color, markersize=5)
    left.set_xlabel(f"component 1 ({shares[0]:.0%} of the variance), {UNIT}")
    left.set_ylabel(f"component 2 ({shares[1]:.0%}), {UNIT}")
    left.legend(title="head", fontsize=7, title_fontsize=7, ncols=2)
    places = np.arange(at.token_class.size)
    for index, values in enumerate(found.by_class):
        right.bar(places + 0.4 * index - 0.2, values, 0.36, label=f"component {index + 1}", color=STAGE_INKS[index])
    right.axhline(0, color="0.4", linewidth=0.7)
    right.set_xticks(places, at.token_class.values, rotation=20, ha="right", fontsize=8)
    right.set_ylabel("mean over the tokens of a class (1 = root mean square)", fontsize=8)
    right.legend(fontsize=8)
    caption = (
        "Left: the paths of all heads over training in the two leading components of their susceptibilities to single tokens; "
        "dots: the end. Right: what the components are made of."
    )
    return Picture("components", figure, caption)
