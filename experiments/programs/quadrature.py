"""Finite values of machines of one step, exactly: there the loss is a sum over simplices that do not know of each other."""

import numpy as np
from scipy.special import i0e
from scipy.stats import gamma as gamma_law

from slt_jax.theory import SynthesisProblem, TuringMachine

__all__ = ["factors", "one_step_values"]

NEGLIGIBLE = 30.0
"""What weighs e^-30 of the whole is left out."""


def factors(machine: TuringMachine, problem: SynthesisProblem) -> bool:
    """Whether one step is run, the state is read, and every input shows a symbol of its own with one accepted answer."""
    shown = [word[0] if word else 0 for word in problem.inputs]
    single = all(len(set(accepted)) == 1 for accepted in problem.accepted)
    return problem.steps == 1 and problem.square is None and single and len(set(shown)) == len(shown)


def one_step_values(
    machine: TuringMachine,
    problem: SynthesisProblem,
    nbeta: float,
    localization: float,
    wrong_exponent: float = 1.0,
    points: int = 3000,
) -> tuple[float, float]:
    """nβE[L] and F(nβ) where `factors` holds.

    Each of the N inputs reads a state simplex of its own, and L = -(1/N) Σ log p. With R the weight |z|² of the right value, a
    Rice variable squared, and W that of the wrong ones together, a gamma variable of shape α(|Q| - 1), p = R/(R + W) and

        nβE[L] = N E[a log(1 + W/R)] under (1 + W/R)^(-a),   F = -N log E[(1 + W/R)^(-a)] under the prior,   a = nβ/N.

    Both integrals by the trapezoidal rule in log R, log W; α is `wrong_exponent`, the Dirichlet exponent of a wrong value.

    Raises:
        ValueError: where `factors` does not hold.
    """
    if not factors(machine, problem):
        raise ValueError(
            "the machine must run one step, with the state as its output and a symbol of its own per input"
        )
    shape = wrong_exponent * (machine.states - 1)
    log_right = np.linspace(-NEGLIGIBLE, np.log((1 + 9 / np.sqrt(localization)) ** 2), points)
    root = np.exp(log_right / 2)
    rice = log_right + np.log(localization / 2) - localization / 2 * (root - 1) ** 2 + np.log(i0e(localization * root))
    # To the left of 1/nβ, where the posterior lives, the density falls like W^shape.
    largest = np.log(100 / localization)
    log_wrong = np.linspace(largest - np.log1p(nbeta) - NEGLIGIBLE / shape, largest, points)
    wrong = gamma_law(shape, scale=2 / localization).logpdf(np.exp(log_wrong)) + log_wrong
    power = nbeta / len(problem.inputs)
    energy = power * np.logaddexp(0, np.subtract.outer(log_wrong, log_right))
    prior = np.exp(np.add.outer(wrong, rice))
    prior /= prior.sum()
    weight = prior * np.exp(-energy)
    count = len(problem.inputs)
    return float(count * (energy * weight).sum() / weight.sum()), float(-count * np.log(weight.sum()))
