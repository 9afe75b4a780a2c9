"""What a look at w* found, as a value: each number beside what it should stay below, and a sentence for what is not."""

from dataclasses import dataclass

import numpy as np

__all__ = ["HEATING_LIMIT", "Inspection"]

HEATING_LIMIT = 0.05
"""The share of an LLC that minibatch noise may add before it is called heated."""
STEP_LIMIT = 0.05
"""The share of the LLC of stiff directions that the step itself may add before it is called too long."""
GAIN_LIMIT = 0.5
"""What the potential nβL + γ/2|w - w*|² may fall by from w*, before w* is called no minimum: half a unit of LLC."""
COARSE_LIMIT = 0.1
"""nβ times the spacing of the losses' number type, above which the estimate is called coarse."""
SADDLE_SHARE = 0.05
"""A negative curvature counts if it overcomes γ and is this share of the top curvature: trained networks have many weaker."""


@dataclass(frozen=True)
class Inspection:
    """What was found at w*, each number beside what it should stay below.

    Attributes:
        gain: what the potential nβL + γ/2|w - w*|² could fall by within its quadratic approximation, ½·nβ²gᵀ(nβH + γ)⁻¹g.
            The LLC reads low by about this. Should be below 0.5.
        lowest_curvature: smallest Ritz value of nβ∇²L. Should not be far below -γ: a saddle has no LLC.
        top_curvature: largest Ritz value of nβ∇²L; NaN if the loss cannot be differentiated twice.
        heating: share by which minibatch noise raises the LLC at this kernel, step and batch size. Should be below 0.05.
            NaN if no step size was given.
        step_bias: share by which the step itself raises the LLC of the stiff directions. Should be below 0.05. NaN if no step
            size was given.
        spacing: nβ times the spacing of the losses' number type at their size. Should be below 0.1.
        adapting: whether a preconditioner was still adapting when draws were recorded.
        looked: false if nothing was looked at.

    Example:
        >>> import slt_jax
        >>> slt_jax.Inspection(gain=2.0, top_curvature=100.0, looked=True).findings[0][:13]
        'not a minimum'
    """

    gain: float = 0.0
    lowest_curvature: float = 0.0
    top_curvature: float = float("nan")
    heating: float = float("nan")
    step_bias: float = float("nan")
    spacing: float = 0.0
    localization: float = 0.0
    batch_size: int | None = None
    adapting: bool = False
    looked: bool = False

    @property
    def saddle(self) -> bool:
        """Whether a direction goes down from w* faster than γ and the top curvature excuse."""
        return self.lowest_curvature < -(self.localization + SADDLE_SHARE * max(self.top_curvature, 0.0))

    @property
    def findings(self) -> tuple[str, ...]:
        """One sentence for everything that is out of bounds; empty if nothing is."""
        found = []
        if self.looked and np.isnan(self.top_curvature):
            found.append(
                "unseen: loss_fn cannot be differentiated twice, so nobody knows whether w* is a minimum or how much minibatch "
                "noise heats; write it without a derivative rule of its own, or compare two batch sizes and two values of w*"
            )
        if self.saddle:
            found.append(
                f"not a minimum: at w* a direction has curvature {self.lowest_curvature:.3g} (nβ·h), below -γ; the LLC of a "
                "saddle is not defined, train on or raise localization"
            )
        elif self.gain > GAIN_LIMIT:
            found.append(
                f"not a minimum: the gradient at w* lets the potential fall by about {self.gain:.2g}, and the LLC reads low "
                "by as much; train on, or raise localization"
            )
        if self.step_bias > STEP_LIMIT:
            found.append(
                f"step too long: the step itself raises the LLC of the stiffest directions by about {self.step_bias:.0%}; lower "
                f"step_size to {_proposed_share(self.step_bias):.2g} times what it is"
            )
        if self.heating > 1.1 * HEATING_LIMIT:  # `calibrate` goes up to the limit itself
            wanted = "" if self.batch_size is None else f" to {_proposed_batch(self.batch_size, self.heating):,}"
            found.append(
                f"heated: minibatch noise raises the LLC by about {self.heating:.0%}; raise batch_size{wanted} or lower "
                "step_size in proportion"
            )
        if self.spacing > COARSE_LIMIT:
            found.append(
                f"coarse: nbeta times the spacing of the losses' number type is {self.spacing:.2g}; take a constant off "
                "the losses, or use a wider type"
            )
        if self.adapting:
            found.append(
                "adapting: the preconditioner followed the chain while draws were recorded, which raises variances by 6 to "
                "21% on a quadratic; give num_burnin > 0, after which it is constant"
            )
        return tuple(found)


def _proposed_share(step_bias: float) -> float:
    """Of the step, at which the bias x/(1 - x), x in proportion to the step, is a fifth of the limit."""
    share = step_bias / (1 + step_bias)
    return float(STEP_LIMIT / 5 / share)


def _proposed_batch(batch_size: int, heating: float) -> int:
    return int(np.ceil(batch_size * heating / HEATING_LIMIT))
