"""Small multiples of `lrt-stages`: every metric against the training step, stages shaded; refined LLCs; essential dynamics."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray

from experiments.lrt_stages.stages import shown
from slt_jax.analysis.essential_dynamics import osculating_circles, principal_trajectory, smooth_path
from slt_jax.analysis.stages import Stages
from slt_jax.plotting import STAGE_INKS, plot_curves, plot_trajectory
from slt_lab.page import Picture
from slt_lab.stages import shade

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["essential_dynamics_figure", "metrics_figure", "refined_figure"]


class Panel(NamedTuple):
    """One small multiple: curves over `step`, labelled."""

    title: str
    ylabel: str
    curves: Callable[[xarray.Dataset], dict[str, np.ndarray]]
    logarithmic: bool = False
    colormap: str | None = None
    legend: str | None = None


def _indexed(name: str, labels: Iterable[str] | None = None) -> Callable[[xarray.Dataset], dict[str, np.ndarray]]:
    """Curves of a variable with one more axis, labelled 1, 2, ... or as given."""

    def curves(at: xarray.Dataset) -> dict[str, np.ndarray]:
        values = at[name].values
        names = labels or [str(index + 1) for index in range(values.shape[1])]
        return {label: values[:, index] for index, label in enumerate(names)}

    return curves


def _scaled(name: str) -> Callable[[xarray.Dataset], dict[str, np.ndarray]]:
    def curves(at: xarray.Dataset) -> dict[str, np.ndarray]:
        return {f"g = {scale:g}": at[name].sel(scale=scale).values for scale in at.scale.values}

    return curves


def _prefixed(prefix: str) -> Callable[[xarray.Dataset], dict[str, np.ndarray]]:
    """Curves of all variables called `prefix.block_0.mlp_norm` and so on, with short labels."""

    def curves(at: xarray.Dataset) -> dict[str, np.ndarray]:
        names = sorted(str(name) for name in at.data_vars if str(name).startswith(prefix + "."))
        return {name.removeprefix(prefix + ".").replace("_", " ").replace(".", ", "): at[name].values for name in names}

    return curves


def _heads(name: str) -> Callable[[xarray.Dataset], dict[str, np.ndarray]]:
    def curves(at: xarray.Dataset) -> dict[str, np.ndarray]:
        layers, heads = at.sizes["layer"], at.sizes["head"]
        return {f"{i}.{j}": at[name].values[:, i, j] for i in range(layers) for j in range(heads)}

    return curves


def _unembedding(at: xarray.Dataset) -> dict[str, np.ndarray]:
    modulus = np.abs(at.effective_unembedding.values)
    return {f"{share}%": np.percentile(modulus, share, axis=1) for share in (100, 90, 50, 10)}


def _one(*names: tuple[str, str]) -> Callable[[xarray.Dataset], dict[str, np.ndarray]]:
    return lambda at: {label: at[name].values for name, label in names}


PANELS = (
    Panel("Loss per example", "mean squared error", _indexed("loss_token"), colormap="viridis", legend="example"),
    Panel("In-context learning", "ICL score, loss₈ - loss₁", _one(("icl_score", "score"))),
    Panel("What it answers", "squared units", _one(
        ("zero_prediction", "prediction²"), ("distance_to_ridge", "distance to ridge²")), logarithmic=True),
    Panel("Inputs g times as large", "ICL score / g", _scaled("ood_input_icl")),
    Panel("Tasks g times as large", "ICL score / g", _scaled("ood_task_icl")),
    Panel("Weight norm", "Euclidean norm", _one(("weight_norm", "norm")), logarithmic=True),
    Panel("LayerNorm collapse", "share of weights below 0.1", _prefixed("collapse")),
    Panel("LayerNorm weights", "mean modulus", _prefixed("norm_mean")),
    Panel("Effective unembedding", "modulus, by percentile", _unembedding, logarithmic=True, colormap="viridis"),
    Panel("Token embedding", "share of σ²", _indexed("token_spectrum"), colormap="viridis", legend="mode"),
    Panel("Position embedding", "share of σ²", _indexed("position_spectrum"), colormap="viridis"),
    Panel("Attention entropy", "entropy / maximum", _heads("attention_entropy"), colormap="tab10", legend="layer.head"),
    Panel("Attention variability", "total variation", _heads("attention_variability"), colormap="tab10"),
    Panel("Attention distance", "tokens", _heads("attention_distance"), colormap="tab10"),
)  # fmt: skip


def metrics_figure(at: xarray.Dataset, seed: int, stages: Stages | None) -> Picture:
    """Behaviour, structure and geometry of one seed."""
    import matplotlib.pyplot as plt

    count = len(PANELS) + ("hessian_eigenvalues" in at) + ("hessian_trace" in at)
    rows = -(-count // 4)
    figure, axes = plt.subplots(rows, 4, figsize=(16, 3.1 * rows), layout="constrained")
    flat = list(np.ravel(axes))
    for ax, panel in zip(flat, PANELS, strict=False):
        curves = panel.curves(at)
        plot_curves(
            ax, at.step.values, curves, ylabel=panel.ylabel, colormap=panel.colormap, legend_title=panel.legend
        )  # fmt: skip
        if len(curves) > 10 and ax.get_legend() is not None:
            ax.get_legend().remove()
        _finish(ax, at, panel.title, stages, panel.logarithmic)
    _geometry(flat[len(PANELS) : count], at, stages)
    for ax in flat[count:]:
        ax.set_visible(False)
    caption = f"Seed {seed}: behaviour, structure and geometry over training; stages shaded."
    return Picture(f"metrics_seed_{seed}", figure, caption)


def _geometry(axes: list["Axes"], at: xarray.Dataset, stages: Stages | None) -> None:
    """As much of the geometry as was measured."""
    left = iter(axes)
    if "hessian_eigenvalues" in at:
        ax, moduli = next(left), np.abs(at.hessian_eigenvalues.values)
        tops = {str(k + 1): moduli[:, k] for k in range(moduli.shape[1])}
        plot_curves(
            ax, at.checkpoint.values, tops, ylabel="eigenvalue", colormap="viridis", legend_title="eigenvalue"
        )  # fmt: skip
        _finish(ax, at, "Leading Hessian eigenvalues", stages, True)
    if "hessian_trace" in at:
        ax = next(left)
        traces = {"Hessian": np.abs(at.hessian_trace.values), "Fisher (empirical)": at.fisher_trace.values}
        plot_curves(ax, at.checkpoint.values, traces, ylabel="trace")
        _finish(ax, at, "Traces", stages, True)


def _finish(ax: "Axes", at: xarray.Dataset, title: str, stages: Stages | None, logarithmic: bool) -> None:
    from matplotlib.ticker import NullFormatter

    ax.set_title(title, fontsize=10)
    if logarithmic:
        ax.set_yscale("log")
    ax.set_xlim(*shown(at))
    ax.xaxis.set_minor_formatter(NullFormatter())
    shade(ax, stages)


def refined_figure(at: xarray.Dataset, seed: int, stages: Stages | None) -> Picture | None:
    """Refined LLCs of one seed; `None` if there are none."""
    if "refined_llc" not in at or not np.isfinite(at.refined_llc).any():
        return None
    import matplotlib.pyplot as plt

    measured = at.dropna("checkpoint", how="all", subset=["refined_llc"])
    names = [str(name) for name in at.component.values]
    groups = {
        "Heads": [name for name in names if name.startswith("head ")],
        "MLPs and embeddings": [
            name for name in names if ("mlp" in name and "norm" not in name) or "embedding" in name
        ],
        "LayerNorms": [name for name in names if "norm" in name],
    }
    figure, axes = plt.subplots(1, 3, figsize=(14, 4), layout="constrained")
    for ax, (title, members) in zip(axes, groups.items(), strict=True):
        ax.set_xscale("log")
        for name in members:
            here = measured.sel(component=name)
            ax.errorbar(
                here.checkpoint.values, here.refined_llc.values, yerr=2 * here.refined_llc_std_error.values,
                marker="o", markersize=3, linewidth=1.2, capsize=2, label=name.removeprefix("head "),
            )  # fmt: skip
        ax.set_xlabel("training step")
        ax.set_ylabel("refined LLC (bars: 2 standard errors)")
        ax.legend(fontsize=7, title="layer.head" if title == "Heads" else None, title_fontsize=7)
        _finish(ax, at, title, stages, False)
    caption = f"Seed {seed}: local learning coefficient of each part, the rest of the weights fixed."
    return Picture(f"refined_seed_{seed}", figure, caption)


def essential_dynamics_figure(at: xarray.Dataset, seed: int, stages: Stages | None) -> Picture | None:
    """PCA of the outputs over checkpoints, coloured by stage; `None` for fewer than five checkpoints, which are no path."""
    if at.sizes["step"] < 5:
        return None
    import matplotlib.pyplot as plt

    found = principal_trajectory(at.outputs.values)
    steps = at.step.values.astype(float)
    grid, path = smooth_path(steps, found.coordinates)
    edges = (
        [steps[0], *(boundary.step for boundary in stages.boundaries), steps[-1]] if stages else [steps[0], steps[-1]]
    )
    stage_of = np.clip(np.searchsorted(edges, grid, side="right") - 1, 0, len(edges) - 2)
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    for ax, (i, j) in zip(axes, ((0, 1), (0, 2), (1, 2)), strict=True):
        plot_trajectory(
            ax, path[:, [i, j]], stage_of, points=found.coordinates[:, [i, j]],
            centers=osculating_circles(path[:, [i, j]]).centers,
        )  # fmt: skip
        ax.set_xlabel(f"component {i + 1} ({found.explained[i]:.0%} of the variance)")
        ax.set_ylabel(f"component {j + 1} ({found.explained[j]:.0%})")
    names = [chr(ord("A") + index) for index in range(len(edges) - 1)]
    handles = [plt.Line2D([], [], color=STAGE_INKS[k % len(STAGE_INKS)], label=name) for k, name in enumerate(names)]
    handles.append(plt.Line2D([], [], color="0.6", linewidth=0.8, label="centres of osculating circles"))
    axes[0].legend(handles=handles, fontsize=7, title="stage", title_fontsize=7)
    caption = (
        f"Seed {seed}: model outputs on {at.sizes['output'] // at.sizes['example']} fixed sequences over training, in their "
        "principal components (units of the predictions). The curve is smoothed in log time; where its circles' centres "
        "stand still, training turns about a form it does not stop at."
    )
    return Picture(f"essential_dynamics_seed_{seed}", figure, caption)
