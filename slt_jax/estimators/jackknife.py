"""Error bars of any function of moments, from blocks of draws: delete one block, look how far the value moves.

Draws of a chain are correlated, so an error bar that counts them as independent covers 20 to 50% where it says 95%. Means of
long blocks are nearly independent, and there are few of them, hence the quantiles of Student's t with one degree of freedom
less than there are blocks.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slt_jax.sampling.statistics import BlockMoments

__all__ = [
    "Jackknife",
    "blocks_of",
    "deletions",
    "from_deletions",
    "jackknife",
    "moments_of_traces",
    "pool",
    "t_quantile",
]

FEWEST_BLOCKS = 16
"""Blocks in all, at least where the chains kept that many. Fewer make the error bar noisy, more make blocks short."""
PER_BLOCK = (
    "count", "mean_x", "square_x", "mean_y", "square_y", "mean_total", "square_total", "product", "exponential"
)  # fmt: skip


class Jackknife(NamedTuple):
    """A function of moments with its error.

    Attributes:
        value: the function of all draws, its bias of first order in 1/draws taken off.
        std_error: standard error; NaN with fewer than two blocks.
        degrees_of_freedom: number of blocks less one.
    """

    value: np.ndarray
    std_error: np.ndarray
    degrees_of_freedom: int


def blocks_of(moments: BlockMoments, columns: slice = slice(None)) -> BlockMoments:
    """The blocks of all chains in double precision, axes `(block, x, y)`, neighbours merged to about `FEWEST_BLOCKS`.

    Args:
        moments: axes `(chain, block, *x, *y)`, as in `Samples.statistics`.
        columns: which entries of y, ravelled.

    Returns:
        x and y ravelled to one axis each, and a last entry appended to y: the mean of y over all its entries.
    """
    chains, y_size = len(moments.count), int(np.prod(moments.mean_y.shape[2:]))
    filled = int(np.count_nonzero(moments.count[0]))
    groups = np.array_split(np.arange(filled), max(1, min(filled, math.ceil(FEWEST_BLOCKS / chains))))
    flat = _flatten(moments, filled, y_size, columns)
    merged = []
    for chain in range(chains):
        merged += [pool(_take(flat, (chain, group))) for group in groups]
    return BlockMoments(*[None if leaf[0] is None else np.stack(leaf) for leaf in zip(*merged, strict=True)])


def _flatten(moments: BlockMoments, filled: int, y_size: int, columns: slice) -> BlockMoments:
    """Axes `(chain, block, x, y)` in double precision, without empty blocks; the mean over y appended to y."""
    lead = (len(moments.count), filled)

    def flat(leaf: np.ndarray, *shape: int) -> np.ndarray:
        return np.asarray(leaf)[:, :filled].reshape(*lead, *shape)

    def with_total(leaf: np.ndarray, total: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf[..., columns].astype(np.float64), total[..., None]], axis=-1)

    total = (flat(moments.mean_total).astype(np.float64), flat(moments.square_total).astype(np.float64))
    product = exponential = None
    if moments.product is not None:
        product = flat(moments.product, -1, y_size)
        product = with_total(product, product.mean(axis=-1, dtype=np.float64))
    if moments.exponential is not None:
        exponential = with_total(flat(moments.exponential, y_size), np.full(lead, np.nan))
    return BlockMoments(
        drawn=None,
        count=flat(moments.count).astype(np.float64),
        mean_x=flat(moments.mean_x, -1).astype(np.float64),
        square_x=flat(moments.square_x, -1).astype(np.float64),
        mean_y=with_total(flat(moments.mean_y, y_size), total[0]),
        square_y=with_total(flat(moments.square_y, y_size), total[1]),
        mean_total=total[0],
        square_total=total[1],
        product=product,
        exponential=exponential,
        reference_x=None,
        reference_y=None,
    )


def _take(blocks: BlockMoments, index: tuple | np.ndarray) -> BlockMoments:
    return blocks._replace(**{name: leaf[index] for name in PER_BLOCK if (leaf := getattr(blocks, name)) is not None})


def pool(blocks: BlockMoments) -> BlockMoments:
    """The moments of all blocks together, without a block axis (Chan, Golub & LeVeque 1983)."""
    count = blocks.count.sum()
    share = blocks.count / count

    def mean(leaf: np.ndarray) -> np.ndarray:
        return np.tensordot(share, leaf, axes=1)

    x, y, total = mean(blocks.mean_x), mean(blocks.mean_y), mean(blocks.mean_total)
    from_x, from_y, from_total = blocks.mean_x - x, blocks.mean_y - y, blocks.mean_total - total
    product = None
    if blocks.product is not None:
        product = blocks.product.sum(axis=0) + np.einsum("b,bx,by->xy", blocks.count, from_x, from_y)
    return BlockMoments(
        drawn=None,
        count=count,
        mean_x=x,
        square_x=blocks.square_x.sum(axis=0) + np.tensordot(blocks.count, from_x**2, axes=1),
        mean_y=y,
        square_y=blocks.square_y.sum(axis=0) + np.tensordot(blocks.count, from_y**2, axes=1),
        mean_total=total,
        square_total=blocks.square_total.sum() + blocks.count @ from_total**2,
        product=product,
        exponential=None if blocks.exponential is None else mean(blocks.exponential),
        reference_x=None,
        reference_y=None,
    )


def jackknife(function: Callable[[BlockMoments], np.ndarray], blocks: BlockMoments) -> Jackknife:
    """`function` of the pooled moments of `blocks`, with the delete-one-block standard error."""
    return from_deletions(*deletions(function, blocks), blocks.count)


def deletions(function: Callable[[BlockMoments], np.ndarray], blocks: BlockMoments) -> tuple[np.ndarray, np.ndarray]:
    """`function` of all blocks, and of all but one for each of them, with a leading axis `block`."""
    everyone = np.arange(len(blocks.count))
    value = np.asarray(function(pool(blocks)), np.float64)
    if len(everyone) < 2:
        return value, np.full((1, *value.shape), np.nan)
    return value, np.stack([function(pool(_take(blocks, everyone != block))) for block in everyone])


def from_deletions(value: np.ndarray, deleted: np.ndarray, count: np.ndarray) -> Jackknife:
    """What `deletions` found, of blocks of `count` draws, as a value with its standard error.

    Source: Busing, Meijer & van der Leeden 1999, "Delete-m jackknife for unequal m".
    """
    if len(count) < 2:
        return Jackknife(value, np.full_like(value, np.nan), 0)
    share = (count / count.sum()).reshape(-1, *[1] * value.ndim)
    corrected = len(count) * value - np.sum((1 - share) * deleted, axis=0)
    # Pseudo-values h·θ - (h - 1)·θ_(-j), h = 1/share; their spread over (h - 1) is the variance.
    pseudo = value / share - (1 / share - 1) * deleted
    variance = np.mean((pseudo - corrected) ** 2 / (1 / share - 1), axis=0)
    return Jackknife(corrected, np.sqrt(variance), len(count) - 1)


def t_quantile(level: float, degrees_of_freedom: int) -> float:
    """How many standard errors a two-sided interval of probability `level` reaches; NaN without degrees of freedom."""
    from scipy.stats import t

    if not 0 < level < 1:
        raise ValueError(f"level = {level}; it is a probability and must lie in (0, 1)")
    return float(t.ppf(0.5 + level / 2, degrees_of_freedom)) if degrees_of_freedom > 0 else float("nan")


def moments_of_traces(x: np.ndarray, y: np.ndarray, num_blocks: int = FEWEST_BLOCKS) -> BlockMoments:
    """What `cross_moments` would have streamed, from recorded values.

    Args:
        x: `(chain, draw, *x)`.
        y: `(chain, draw, *y)`.
        num_blocks: blocks per chain.
    """
    if x.shape[:2] != y.shape[:2]:
        raise ValueError(f"traces have axes (chain, draw) of {x.shape[:2]} and {y.shape[:2]}; they must agree")
    chains, draws = x.shape[:2]
    x_shape, y_shape = x.shape[2:], y.shape[2:]
    x, y = (np.asarray(values, np.float64).reshape(chains, draws, -1) for values in (x, y))
    blocks = [_one_block(x[:, part], y[:, part]) for part in np.array_split(np.arange(draws), min(num_blocks, draws))]
    stacked = BlockMoments(*[None if leaf[0] is None else np.stack(leaf, axis=1) for leaf in zip(*blocks, strict=True)])
    shapes = {
        "mean_x": x_shape,
        "square_x": x_shape,
        "mean_y": y_shape,
        "square_y": y_shape,
        "product": x_shape + y_shape,
    }
    lead = stacked.count.shape
    return stacked._replace(
        drawn=np.full(chains, draws),
        **{name: getattr(stacked, name).reshape(*lead, *shape) for name, shape in shapes.items()},
    )


def _one_block(x: np.ndarray, y: np.ndarray) -> BlockMoments:
    """Moments of `(chain, draw, x)` and `(chain, draw, y)` over draws, leading axis `chain`."""
    mean_x, mean_y, total = x.mean(axis=1), y.mean(axis=1), y.mean(axis=2)
    from_x, from_y = x - mean_x[:, None], y - mean_y[:, None]
    mean_total = total.mean(axis=1)
    return BlockMoments(
        drawn=None,
        count=np.full(len(x), x.shape[1]),
        mean_x=mean_x,
        square_x=np.sum(from_x**2, axis=1),
        mean_y=mean_y,
        square_y=np.sum(from_y**2, axis=1),
        mean_total=mean_total,
        square_total=np.sum((total - mean_total[:, None]) ** 2, axis=1),
        product=np.einsum("cdx,cdy->cxy", from_x, from_y),
        exponential=None,
        reference_x=None,
        reference_y=None,
    )
