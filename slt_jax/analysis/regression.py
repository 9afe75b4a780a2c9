"""Slopes of one quantity on another over models, others held: least squares, intervals, and permutations."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

__all__ = ["Slope", "permutation_share", "slope"]


class Slope(NamedTuple):
    """A coefficient of a linear regression.

    Attributes:
        value: in units of the outcome per unit of the predictor.
        std_error: robust to unequal variances (HC3; MacKinnon & White 1985), or also to what the rows of a cluster share (CR1; Liang & Zeger 1986).
        low, high: the 95% interval of Student's t.
        partial_correlation: of outcome and predictor, both less what the covariates explain.
        models: rows used.
    """

    value: float
    std_error: float
    low: float
    high: float
    partial_correlation: float
    models: int


def slope(
    outcome: np.ndarray,
    predictor: np.ndarray,
    covariates: Sequence[np.ndarray] = (),
    groups: Sequence[np.ndarray] = (),
    clusters: np.ndarray | None = None,
) -> Slope:
    """The slope of `outcome` on `predictor` with the covariates, and intercepts for each kind of group, beside it.

    Rows with a value that is not finite are left out.

    Args:
        outcome, predictor: one number a row, a model say.
        covariates: further columns of the regression.
        groups: labels, each array a grouping with an intercept for every label; the slope is one within groups.
        clusters: labels of rows whose errors may go together; the interval then has as many degrees of freedom as clusters, less one.

    Raises:
        ValueError: if there are no more rows than coefficients, fewer than two clusters, or the predictor is explained by the rest.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.regression import slope
        >>> size, age = np.array([1.0, 2.0, 4.0, 3.0, 5.0]), np.array([0.0, 1.0, 1.0, 2.0, 2.0])
        >>> round(slope(3 * size - age, size, [age]).value, 6)
        3.0
    """
    kept, outcome, predictor, others = _columns(outcome, predictor, covariates, groups)
    count, width = len(outcome), 1 + int(np.linalg.matrix_rank(others))
    if count <= width:
        raise ValueError(f"{count} rows with finite values are too few for {width} coefficients")
    basis = _basis(others)
    left_y, left_x = (column - basis @ (basis.T @ column) for column in (outcome, predictor))
    spread = float(left_x @ left_x)
    if spread <= 1e-20 * max(predictor @ predictor, 1e-300):
        raise ValueError("the predictor does not vary once the covariates and groups are held")
    value = float(left_x @ left_y / spread)
    residual = left_y - value * left_x
    if clusters is None:
        leverage = np.clip(np.sum(basis**2, axis=1) + left_x**2 / spread, None, 1 - 1e-12)
        error, freedom = float(np.sqrt(np.sum((left_x * residual / (1 - leverage)) ** 2)) / spread), count - width
    else:
        error, freedom = _clustered(left_x * residual, np.asarray(clusters)[kept], width, spread)
    reach = float(student.ppf(0.975, freedom)) * error
    correlation = float(left_x @ left_y / np.sqrt(spread * max(left_y @ left_y, 1e-300)))
    return Slope(value, error, value - reach, value + reach, correlation, count)


def _clustered(scores: np.ndarray, labels: np.ndarray, width: int, spread: float) -> tuple[float, int]:
    """CR1 standard error and degrees of freedom."""
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise ValueError("the rows are of one cluster; an error that clusters share takes at least 2")
    sums = np.bincount(index, weights=scores)
    correction = len(names) / (len(names) - 1) * (len(scores) - 1) / (len(scores) - width)
    return float(np.sqrt(correction * np.sum(sums**2)) / spread), len(names) - 1


def permutation_share(
    rng: np.random.Generator,
    outcome: np.ndarray,
    predictor: np.ndarray,
    covariates: Sequence[np.ndarray] = (),
    groups: Sequence[np.ndarray] = (),
    count: int = 2000,
) -> float:
    """Share of permutations whose partial correlation is at least as far from 0 (Freedman & Lane 1983): what the covariates leave of
    the outcome is dealt out anew, within the labels of the first grouping if there is one. The permutation that changes nothing counts as one.

    Raises:
        ValueError: as `slope`.
    """
    slope(outcome, predictor, covariates, groups)  # refuses what has no slope
    kept, outcome, predictor, others = _columns(outcome, predictor, covariates, groups)
    labels, basis = (np.asarray(groups[0])[kept] if groups else None), _basis(others)
    left_x, left_y = (column - basis @ (basis.T @ column) for column in (predictor, outcome))

    def far(residual: np.ndarray) -> float:
        again = residual - basis @ (basis.T @ residual)
        return abs(left_x @ again) / np.sqrt(max(again @ again, 1e-300))

    found = far(left_y)
    hits = sum(far(left_y[_shuffled(rng, labels, len(left_y))]) >= found * (1 - 1e-12) for _ in range(count))
    return (1 + hits) / (1 + count)


def _columns(
    outcome: np.ndarray, predictor: np.ndarray, covariates: Sequence[np.ndarray], groups: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which rows are kept; outcome, predictor, and the other columns: intercepts, and covariates about their means."""
    kept = np.isfinite(np.column_stack([outcome, predictor, *covariates])).all(axis=1)
    others = [np.ones((int(kept.sum()), 1))]
    for grouping in groups:
        labels = np.asarray(grouping)[kept]
        others.append((labels[:, None] == np.unique(labels)[None]).astype(float))
    for covariate in covariates:
        column = np.asarray(covariate, np.float64)[kept]
        others.append((column - column.mean())[:, None])
    return kept, np.asarray(outcome, np.float64)[kept], np.asarray(predictor, np.float64)[kept], np.hstack(others)


def _basis(columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns of the same span; intercepts of several groupings depend on each other."""
    scale = np.linalg.norm(columns, axis=0)
    left, values, _ = np.linalg.svd(columns / np.where(scale > 0, scale, 1.0), full_matrices=False)
    return left[:, values > 1e-10 * values[0]]


def _shuffled(rng: np.random.Generator, labels: np.ndarray | None, count: int) -> np.ndarray:
    if labels is None:
        return rng.permutation(count)
    order = np.arange(count)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order[rows] = rng.permutation(rows)
    return order
