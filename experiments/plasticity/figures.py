"""The figure of `plasticity`, from rows alone."""

import numpy as np

from slt_lab.page import Picture

__all__ = ["movement_figure"]


def movement_figure(rows: dict[str, np.ndarray], optimizer: str) -> Picture:
    """How far each head moved against its refined LLC and against its gradient, those past their peak apart."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained", sharey=True)
    names = (("level", "refined LLC of the head"), ("gradient", "length of its gradient on the new language"))
    for ax, (name, label) in zip(axes, names, strict=True):
        for past, ink, words in ((0.0, "0.6", "before its peak, or without one"), (1.0, "#b2182b", "past its peak")):
            mine = (rows["past"] == past) & np.isfinite(rows[name]) & np.isfinite(rows["movement"])
            ax.loglog(
                np.exp(rows[name][mine]),
                np.exp(rows["movement"][mine]),
                "o",
                markersize=3,
                alpha=0.5,
                color=ink,
                label=words,
            )
        ax.set_xlabel(label)
    axes[0].set_ylabel("movement of the head's function\n(KL, nats per token)")
    axes[0].legend(fontsize=8, loc="upper left")
    caption = f"Every head of every checkpoint of every model, trained on with {optimizer}: how far its function moved on new languages, against its refined LLC and its gradient."
    return Picture(f"movement_{optimizer}", figure, caption)
