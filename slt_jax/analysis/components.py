"""Components of a network, told apart by how their refined LLC moves over training.

Curves have shape `(component, checkpoint)`; a component is a head, a layer, anything a `Restriction` takes. Arrays in,
arrays out: nothing here knows what the curves are of.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

__all__ = ["Clusters", "RiseThenFall", "cluster_curves", "rise_then_fall"]


class Clusters(NamedTuple):
    """Components grouped by their curves.

    Attributes:
        labels: cluster of each component, `(component,)`; 0 is the cluster with the lowest mean, and so on up.
        linkage: the whole hierarchy as `scipy.cluster.hierarchy.linkage` gives it, for a dendrogram.
        silhouette: mean silhouette of the components, in [-1, 1]; below 0.25 there is no structure to speak of.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.components import cluster_curves
        >>> clusters = cluster_curves(np.array([[1.0, 1.0], [1.1, 1.0], [5.0, 5.0], [5.0, 5.1]]), 2)
        >>> clusters.labels.tolist()  # 0 is the lower cluster
        [0, 0, 1, 1]
    """

    labels: Int[np.ndarray, "component"]
    linkage: Float[np.ndarray, "merge 4"]
    silhouette: float


def cluster_curves(
    curves: Float[np.ndarray, "component checkpoint"], num_clusters: int | None = None, *, max_clusters: int = 6
) -> Clusters:
    """Group components whose curves are close, by Ward's hierarchical clustering (arXiv 2410.02984, section 4).

    Curves are compared as they are, level and shape together: the level of a refined LLC is a complexity, and is what
    tells simple heads from heads that memorise.

    Args:
        curves: one curve per component, finite.
        num_clusters: how many clusters; by default the number, 2 to `max_clusters`, of the highest silhouette.
        max_clusters: most clusters considered.

    Raises:
        ValueError: if there are fewer than 3 components, a value is not finite, or `num_clusters` is not 2 to
            component - 1.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.components import cluster_curves
        >>> curves = np.array([[1.0, 1.0], [1.1, 1.0], [5.0, 5.0], [5.0, 5.1]])  # four heads, two checkpoints
        >>> clusters = cluster_curves(curves)
        >>> clusters.labels.tolist(), clusters.silhouette > 0.9
        ([0, 0, 1, 1], True)
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from sklearn.metrics import silhouette_score

    count = len(curves)
    if count < 3:
        raise ValueError(f"curves has {count} components; clustering needs at least 3")
    if not np.isfinite(curves).all():
        raise ValueError("curves has values that are not finite; leave diverged components or checkpoints out")
    if num_clusters is not None and not 2 <= num_clusters < count:
        raise ValueError(f"num_clusters = {num_clusters}; it must be between 2 and {count - 1}")
    tree = linkage(curves, "ward")
    numbers = [num_clusters] if num_clusters else range(2, min(max_clusters, count - 1) + 1)
    scored = []
    for number in numbers:
        labels = fcluster(tree, number, "maxclust")
        score = silhouette_score(curves, labels) if 1 < len(set(labels)) < count else -1.0
        scored.append((float(score), labels))
    silhouette, labels = max(scored, key=lambda pair: pair[0])
    means = {label: curves[labels == label].mean() for label in set(labels.tolist())}
    ranks = {label: rank for rank, label in enumerate(sorted(means, key=lambda label: means[label]))}
    return Clusters(np.asarray([ranks[label] for label in labels.tolist()]), tree, silhouette)


class RiseThenFall(NamedTuple):
    """Whether each curve rises and then falls, and where; every field has shape `(component,)`.

    Attributes:
        found: both the rise and the fall exceed what noise would show.
        start, peak, end: checkpoint indices of the lowest point before, the peak, and the lowest point after.
        rise, fall: curve at the peak minus at the start, and minus at the end; in the units of the curve.
        score: the smaller of rise and fall in standard errors of the difference.
        threshold: the score that `found` asks for.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.components import rise_then_fall
        >>> found = rise_then_fall(np.array([[0.0, 5.0, 1.0]]), np.full((1, 3), 0.5))
        >>> found.rise.tolist(), found.fall.tolist()
        ([5.0], [4.0])
    """

    found: Bool[np.ndarray, "component"]
    start: Int[np.ndarray, "component"]
    peak: Int[np.ndarray, "component"]
    end: Int[np.ndarray, "component"]
    rise: Float[np.ndarray, "component"]
    fall: Float[np.ndarray, "component"]
    score: Float[np.ndarray, "component"]
    threshold: float


def rise_then_fall(
    curves: Float[np.ndarray, "component checkpoint"],
    std_errors: Float[np.ndarray, "component checkpoint"],
    *,
    false_positive_rate: float = 0.05,
) -> RiseThenFall:
    """Find the components whose curve rises and later falls by more than its noise.

    For each interior checkpoint p the largest rise to p and the largest fall from p are measured in standard errors of
    the difference; the p with the largest of the smaller of the two is the peak. A curve that never falls shows such a
    fall between some pair of its C checkpoints with probability at most `false_positive_rate`: the threshold is the
    normal quantile shared out over the C(C-1)/2 pairs (Bonferroni).

    Args:
        curves: refined LLCs over training, or any curves.
        std_errors: standard error of each value, positive; errors of different checkpoints are taken as independent.
        false_positive_rate: per component.

    Raises:
        ValueError: if there are fewer than 3 checkpoints, the shapes differ, a value is not finite or a standard error
            is not positive.

    Example:
        >>> import numpy as np
        >>> from slt_jax.analysis.components import rise_then_fall
        >>> curves = np.array([[0.0, 5.0, 1.0], [0.0, 2.0, 5.0]])  # the second never falls
        >>> rise_then_fall(curves, np.full((2, 3), 0.5)).found.tolist()
        [True, False]
    """
    from scipy.stats import norm

    if curves.shape != std_errors.shape:
        raise ValueError(f"std_errors has shape {std_errors.shape}; it must have the shape {curves.shape} of curves")
    count = curves.shape[1]
    if count < 3:
        raise ValueError(f"curves has {count} checkpoints; a rise and a fall need at least 3")
    if not (np.isfinite(curves).all() and np.isfinite(std_errors).all() and (std_errors > 0).all()):
        raise ValueError("curves must be finite and std_errors finite and positive; leave diverged values out")
    variances = std_errors**2
    # z[c, p, q]: how far the curve at p lies above the curve at q.
    z = (curves[:, :, None] - curves[:, None, :]) / np.sqrt(variances[:, :, None] + variances[:, None, :])
    earlier = np.tril(np.ones((count, count), bool), -1)
    before, after = np.where(earlier, z, -np.inf), np.where(earlier.T, z, -np.inf)
    both = np.minimum(before.max(axis=2), after.max(axis=2))
    rows, peak = np.arange(len(curves)), both.argmax(axis=1)
    start, end = before[rows, peak].argmax(axis=1), after[rows, peak].argmax(axis=1)
    top, score = curves[rows, peak], both[rows, peak]
    threshold = float(norm.isf(false_positive_rate / (count * (count - 1) / 2)))
    rise, fall = top - curves[rows, start], top - curves[rows, end]
    return RiseThenFall(score > threshold, start, peak, end, rise, fall, score, threshold)
