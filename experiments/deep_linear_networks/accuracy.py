"""How right a set of estimates is: relative errors and the order they put the networks in."""

import itertools
from typing import Any

import numpy as np

__all__ = ["accuracy", "order_preservation", "sides_with_local"]


def order_preservation(estimates: np.ndarray, truth: np.ndarray) -> float:
    """Share of the pairs with unequal truth that the estimates put in the right order; NaN estimates order nothing."""
    pairs = [(i, j) for i, j in itertools.combinations(range(len(truth)), 2) if truth[i] != truth[j]]
    if not pairs:
        return float("nan")
    first, second = np.array(pairs).T
    right = (estimates[first] - estimates[second]) * (truth[first] - truth[second]) > 0
    return float(right.mean())


def accuracy(estimates: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Relative errors over the finite estimates, the share that is NaN, and order preservation over all."""
    error = (estimates / truth - 1)[np.isfinite(estimates)]
    known = len(error) > 0
    return {
        "median_abs_relative_error": float(np.median(np.abs(error))) if known else float("nan"),
        "p90_abs_relative_error": float(np.quantile(np.abs(error), 0.9)) if known else float("nan"),
        "median_relative_error": float(np.median(error)) if known else float("nan"),
        "order_preservation": order_preservation(estimates, truth),
        "nan_share": float(np.mean(~np.isfinite(estimates))) if len(truth) else float("nan"),
        "networks": len(truth),
    }


def sides_with_local(estimates: np.ndarray, local: np.ndarray, aoyagi: np.ndarray, gap: float) -> dict[str, int]:
    """Of the networks whose Aoyagi value is at least the share `gap` below the local one: how many, and how many of their
    estimates are nearer to the local value. A NaN is nearer to neither."""
    apart = aoyagi <= (1 - gap) * local
    nearer = np.abs(estimates - local) < np.abs(estimates - aoyagi)
    return {"networks": int(apart.sum()), "nearer_to_local": int((apart & nearer).sum())}
