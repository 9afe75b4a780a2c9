"""How well a prediction of influence ranks the truth, with the error that the choice of examples and retrainings leaves."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

__all__ = ["Score", "datamodelling_score", "mean_rank_correlation", "rank_correlation", "reliability"]

BOOTSTRAPS = 1000


class Score(NamedTuple):
    """A mean rank correlation over queries with its bootstrap standard error."""

    value: float
    std_error: float


def mean_rank_correlation(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's correlation along axis 0, the mean over axis 1; NaN where a prediction is missing.

    Columns in which either never moves say nothing and are left out.
    """
    if not (np.isfinite(predicted).all() and np.isfinite(truth).all()):
        return float("nan")
    ranks = [rankdata(values, axis=0) for values in (predicted, truth)]
    first, second = (rank - rank.mean(axis=0) for rank in ranks)
    scale = np.sqrt(np.sum(first**2, axis=0) * np.sum(second**2, axis=0))
    moved = scale > 0
    return float(np.mean(np.sum(first * second, axis=0)[moved] / scale[moved])) if moved.any() else float("nan")


def rank_correlation(predicted: np.ndarray, truth: np.ndarray, seed: int = 0) -> Score:
    """Of `predicted` (case, query) with the mean over retrainings of `truth` (case, retraining, query).

    Its error is that of other cases, other retrainings and other queries: all three are drawn again with replacement.
    """
    generator, (cases, retrainings, queries) = np.random.default_rng(seed), truth.shape
    again = []
    for _ in range(BOOTSTRAPS):
        case, retraining, query = (generator.integers(0, size, size) for size in (cases, retrainings, queries))
        mean = truth[np.ix_(case, retraining, query)].mean(axis=1)
        again.append(mean_rank_correlation(predicted[np.ix_(case, query)], mean))
    value = mean_rank_correlation(predicted, truth.mean(axis=1))
    return Score(value, float(np.nanstd(again, ddof=1)) if np.isfinite(value) else float("nan"))


def datamodelling_score(effects: np.ndarray, member: np.ndarray, truth: np.ndarray, seed: int = 0) -> Score:
    """Linear datamodelling score (arXiv 2303.14186): effects added up over what a part of the data lacks, against retraining.

    Args:
        effects: change of every query when an example is left out, `(query, example)`.
        member: whether an example is in a part, `(part, example)`.
        truth: query losses after training on the parts, `(part, retraining, query)`.
        seed: of the bootstrap.
    """
    return rank_correlation((1.0 - member) @ effects.T, truth, seed)


def reliability(truth: np.ndarray) -> float:
    """The highest rank correlation that a perfect prediction can expect with so many retrainings.

    Correlation r of the means of two halves of the retrainings; the whole has reliability 2r/(1 + r) (Spearman & Brown), and
    a perfect prediction correlates with it as the root of that.
    """
    count = truth.shape[1]
    if count < 2:
        return float("nan")
    r = mean_rank_correlation(truth[:, : count // 2].mean(axis=1), truth[:, count // 2 :].mean(axis=1))
    return float(np.sqrt(2 * r / (1 + r))) if r > 0 else float("nan")
