"""Figures of `lm-stages`."""

import numpy as np
import xarray

from slt_jax.analysis.stages import Stages
from slt_jax.plotting import LLC_COLOR, plot_curves, plot_development, plot_rhat, plot_traces
from slt_lab.heads import best_head, head_name, head_panels, tidy_log_axis, where_measured
from slt_lab.page import Picture
from slt_lab.stages import shade

__all__ = [
    "attention_figure",
    "baselines",
    "development_figure",
    "heads_figure",
    "knowledge_figure",
    "sampling_figure",
]

PREVIOUS, PREFIX = "#3a7d44", "#b03a5b"


def development_figure(results: xarray.Dataset, stages: Stages | None) -> Picture:
    """Loss with the predictors it passes, and LLC; stages shaded."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(9, 4.4), layout="constrained")
    at = where_measured(results, "llc")
    smooth = None if stages is None else (stages.curve.steps, stages.curve.mean)
    plot_development(
        ax, results.step.values, results.loss.values, at.checkpoint.values, at.llc.values, at.llc_std_error.values,
        llc_smooth=smooth,
    )  # fmt: skip
    ax.set_ylabel("loss (nats per token)")
    for name, loss in baselines(results).items():
        ax.axhline(loss, color="0.4", linestyle="--", linewidth=0.8)
        ax.text(0.99, loss, name, transform=ax.get_yaxis_transform(), va="bottom", ha="right", fontsize=7, color="0.3")
    shade(ax, stages, labels=True)
    caption = (
        "Loss on evaluation sequences, the losses of simpler predictors (dashed), and the LLC over training with the Gaussian "
        "process the stages are read from; bars along the bottom hold each boundary with 95% probability."
    )
    return Picture("development", figure, caption)


def baselines(results: xarray.Dataset) -> dict[str, float]:
    """Losses of simpler predictors, by name."""
    prefix = "baseline."
    return {name.removeprefix(prefix): float(loss) for name, loss in results.attrs.items() if name.startswith(prefix)}


def knowledge_figure(results: xarray.Dataset, stages: Stages | None) -> Picture:
    """Bigrams, n-grams, in-context learning, positions and composition over training."""
    import matplotlib.pyplot as plt

    steps = results.step.values
    ngrams = {name.removeprefix("ngram_") + "-grams": results[name].values for name in _named(results, "ngram_")}
    panels = {
        "Bigram score": ("cross-entropy to bigrams", {"": results.bigram_score.values}),
        "In-context learning": ("late loss - early loss", {"": results.icl_score.values}),
        "Positional ablation": ("loss without positions - loss", {"": results.positional_ablation.values}),
    }
    if ngrams:
        panels["n-gram scores"] = ("loss at n over loss on n-grams", ngrams)
    if "k_composition" in results:
        panels["K-composition, largest"] = (
            "normalised",
            {"": results.k_composition.max(("head", "later_head")).values},
        )
    rows = -(-len(panels) // 3)
    figure, axes = plt.subplots(rows, 3, figsize=(9, 2.9 * rows), layout="constrained", squeeze=False)
    for ax, (title, (label, curves)) in zip(np.ravel(axes), panels.items(), strict=False):
        plot_curves(ax, steps, curves, ylabel=label)
        tidy_log_axis(ax)
        shade(ax, stages)
        ax.set_title(title, fontsize=10)
    for ax in np.ravel(axes)[len(panels) :]:
        ax.set_visible(False)
    return Picture("knowledge", figure, "What the model has learned, over training; stages shaded.")


def heads_figure(results: xarray.Dataset, stages: Stages | None) -> Picture:
    """A panel per head: its refined LLC, and its previous-token and prefix-matching scores."""
    figure, axes = head_panels(results)
    at = where_measured(results, "head_llc")
    steps = results.step.values
    for (layer, head), ax in np.ndenumerate(axes):
        here = at.isel(layer=layer, head=head)
        ax.errorbar(
            at.checkpoint.values,
            here.head_llc.values,
            2 * here.head_llc_std_error.values,
            color=LLC_COLOR,
            linewidth=1.3,
        )
        tidy_log_axis(ax)
        shade(ax, stages)
        other = ax.twinx()
        scores = results.isel(layer=layer, head=head)
        other.plot(steps[1:], scores.previous_token.values[1:], color=PREVIOUS, linewidth=1, label="previous token")
        other.plot(steps[1:], scores.prefix_matching.values[1:], color=PREFIX, linewidth=1, label="prefix matching")
        other.set_ylim(0, 1)
        if head < results.sizes["head"] - 1:
            other.set_yticklabels([])
        else:
            other.set_ylabel("score", fontsize=8)
    other.legend(fontsize=6, loc="upper left")
    caption = "Every head: refined LLC (blue, 2 standard errors) and its two attention scores (right axes, 0 to 1)."
    return Picture("heads", figure, caption)


def attention_figure(results: xarray.Dataset) -> Picture:
    """What the strongest previous-token and induction heads attend to, at the end of training."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 4.8), layout="constrained")
    labels = [label.replace("\n", "↵").replace(" ", "␣") for label in results.attrs["example"]]
    for ax, score in zip(axes, ("previous_token", "prefix_matching"), strict=True):
        layer, head = best_head(results, score)
        ax.imshow(results.attention.values[-1, layer, head], cmap="Blues", vmin=0, vmax=1)
        ax.set_xticks(range(len(labels)), labels, rotation=90, fontsize=6)
        ax.set_yticks(range(len(labels)), labels, fontsize=6)
        ax.set_title(f"head {head_name(layer, head)}, highest {score.replace('_', '-')} score", fontsize=9)
        ax.set_xlabel("attended to")
    axes[0].set_ylabel("from")
    return Picture("attention", figure, "Attention on a passage with repetitions; rows sum to 1.")


def sampling_figure(results: xarray.Dataset) -> Picture:
    """Chains of the whole-model LLC at a few checkpoints, and R-hat of all."""
    import matplotlib.pyplot as plt

    at = where_measured(results, "llc")
    shown = np.unique(np.linspace(0, at.checkpoint.size - 1, min(5, at.checkpoint.size)).astype(int))
    figure, axes = plt.subplots(2, 3, figsize=(9, 5.2), layout="constrained")
    for ax, index in zip(np.ravel(axes), shown, strict=False):
        here = at.isel(checkpoint=index)
        plot_traces(ax, here.llc_burnin_trace.values, here.llc_trace.values)
        ax.set_title(f"step {int(here.checkpoint):,}", fontsize=9)
    plot_rhat(np.ravel(axes)[len(shown)], at.checkpoint.values, at.llc_rhat.values)
    tidy_log_axis(np.ravel(axes)[len(shown)])
    for ax in np.ravel(axes)[len(shown) + 1 :]:
        ax.set_visible(False)
    return Picture("sampling", figure, "Chains (running mean over 25 steps; burn-in grey) and R-hat.")


def _named(results: xarray.Dataset, prefix: str) -> list[str]:
    return sorted(str(name) for name in results.data_vars if str(name).startswith(prefix))
