"""Figures of the trained models, from numbers alone."""

from collections.abc import Mapping

import numpy as np

from slt_jax.analysis.regression import Slope
from slt_lab.page import Picture

__all__ = ["clouds", "slopes_figure"]

INKS = ("#3b6ea5", "#c98a1b", "#b2182b", "#4f9a3f", "#8c4b9a", "#7a7060")
AXES = {
    "R(0.1)": "local repair R(0.1)", "R(1)": "repair R(1)", "Q": "redundancy Q", "trace": "Hessian trace (nats per squared weight)",
    "norm": "weight norm", "loss": "loss (nats per token)",
}  # fmt: skip


def clouds(rows: Mapping[str, np.ndarray]) -> Picture:
    """The LLC of every model against what may explain it."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained", sharey=True)
    for ax, (name, label) in zip(axes.flat, AXES.items(), strict=True):
        for number, regime in enumerate(dict.fromkeys(rows["regime"])):
            mine = rows["regime"] == regime
            ax.plot(
                rows[name][mine],
                rows["llc"][mine],
                "o",
                markersize=4.5,
                alpha=0.8,
                color=INKS[number % len(INKS)],
                label=regime,
            )
        ax.set_xlabel(label)
    for ax in axes[:, 0]:
        ax.set_ylabel("LLC")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)
    return Picture(
        "clouds",
        figure,
        "Every model at the end of training: its LLC against repair, redundancy, curvature, norm and loss.",
    )


def slopes_figure(found: Mapping[tuple[str, str], tuple[Slope, float]], when: str) -> Picture:
    """Partial correlations of the LLC, predictor by predictor."""
    import matplotlib.pyplot as plt

    predictors = list(dict.fromkeys(predictor for predictor, _ in found))
    names = list(dict.fromkeys(name for _, name in found))
    figure, ax = plt.subplots(figsize=(8, 0.6 + 0.42 * max(len(names), 3)), layout="constrained")
    for number, predictor in enumerate(predictors):
        for place, name in enumerate(names):
            if (predictor, name) in found:
                one, _ = found[predictor, name]
                scale = one.partial_correlation / one.value if one.value else np.nan
                low, high = sorted((one.low * scale, one.high * scale))
                y = place + 0.22 * (number - (len(predictors) - 1) / 2)
                ax.plot([low, high], [y, y], color=INKS[number % len(INKS)], linewidth=1.6)
                ax.plot(
                    one.partial_correlation,
                    y,
                    "o",
                    color=INKS[number % len(INKS)],
                    markersize=5,
                    label=predictor if place == 0 else None,
                )
    ax.axvline(0, color="0.5", linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("partial correlation with the LLC (bars: the slope's 95% interval, in the same scale)")
    if predictors:
        ax.legend(fontsize=8, loc="best")
    slug = "slopes_" + when.replace(" ", "_")
    return Picture(
        slug,
        figure,
        f"How the LLC goes with repair and redundancy {when}, for each set of quantities held. The conjecture says negative.",
    )
