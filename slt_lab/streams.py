"""The one table of random streams: every use of randomness has a name here, and no two of one family share a key.

A key is `fold_in(key(root), number)`. Nothing drawn for one purpose moves when another changes, so the numbers stay as they are.
"""

from typing import NamedTuple

import jax

from slt_jax.typing import PRNGKey

__all__ = ["STREAMS", "Stream", "stream"]

SHARED = 2**20
"""Root of what is the same for every training seed: the data measured on, probes, the noise of chains."""


class Stream(NamedTuple):
    """Where a key comes from: `root` is a number, or `None` for the training seed; `number` is folded in, if there is one."""

    root: int | None
    number: int | None


STREAMS = {
    # In-context linear regression.
    "regression/init": Stream(None, 0),
    "regression/training": Stream(None, 1),
    "regression/evaluation": Stream(SHARED, 2),
    "regression/posterior data": Stream(SHARED, 3),
    "regression/chains": Stream(SHARED, 4),
    "regression/geometry": Stream(SHARED + 7, None),
    "regression/refined chains": Stream(SHARED + 11, None),
    "regression/reference": Stream(SHARED + 12, None),
    # In-context regression on a finite set of tasks; one seed for all.
    "task sets/init": Stream(None, 0),
    "task sets/training": Stream(None, 1),
    "task sets/tasks": Stream(None, 2),
    "task sets/evaluation": Stream(None, 3),
    "task sets/posterior data": Stream(None, 4),
    "task sets/chains": Stream(None, 5),
    # Language models.
    "language/init": Stream(None, 0),
    "language/training": Stream(None, 1),
    "language/probes": Stream(None, 2),
    "language/chains": Stream(None, 3),
    "language/language": Stream(SHARED, 0),
    "language/evaluation": Stream(SHARED, 1),
    "language/posterior data": Stream(SHARED, 2),
    "language/refined chains": Stream(SHARED + 1, None),
    "language/susceptibility chains": Stream(SHARED + 2, None),
    "language/shift": Stream(SHARED + 3, None),
    "language/head noise": Stream(SHARED + 4, None),
    "language/geometry": Stream(SHARED + 5, None),
    # The toy model of superposition.
    "superposition/chains": Stream(None, 0),
    "superposition/training": Stream(None, 1),
    "superposition/selection": Stream(None, 2),
    "superposition/check": Stream(None, 3),
    # Self-repair.
    "self-repair/chains": Stream(None, 0),
    # The digits network.
    "digits/init": Stream(None, 0),
    "digits/chains": Stream(None, 1),
    "digits/left out": Stream(None, 2),
    "digits/subsets": Stream(None, 3),
}
"""Family and use -> stream. A new use takes a number that its family does not have."""


def stream(name: str, seed: int = 0) -> PRNGKey:
    """The key of a named stream.

    Args:
        name: as in `STREAMS`.
        seed: the training seed; streams that are shared by all seeds do not depend on it.

    Example:
        >>> from slt_lab.streams import stream
        >>> bool((stream("regression/chains", 0) == stream("regression/chains", 1)).all())
        True
    """
    root, number = STREAMS[name]
    key = jax.random.key(seed if root is None else root)
    return key if number is None else jax.random.fold_in(key, number)
