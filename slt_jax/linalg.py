"""Matrix-free products and eigenpairs of symmetric operators: what calibration, metrics and curvature estimates share.

The eigensolver is Rayleigh-Ritz on a randomised block Krylov space (Golub & Underwood 1977; Musco & Musco 2015, arXiv
1504.05477); QR and `eigh` are jax's. Why not a maintained one: a product costs a pass over the data, and
`jax.experimental.sparse.linalg.lobpcg_standard`, as robust, spends 4·rank products an iteration where this spends
2·rank + 32 in all (and needs 5·rank < dim); `matfree.decomp.tridiag_sym` starts from a single vector, which sees one copy
of a repeated eigenvalue and ends when its Krylov space is exhausted. Singular models have both: repeats and low rank.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from jaxtyping import Key

from slt_jax.trees import leading_axis
from slt_jax.typing import Array, Batch, LossFn, Params

__all__ = [
    "Eigenpairs",
    "hessian_matvec",
    "hessian_vector_product",
    "mean_over_examples",
    "ritz_pairs",
    "top_eigenpairs",
]


class Eigenpairs(NamedTuple):
    """Leading eigenpairs of a symmetric matrix, largest eigenvalue first (algebraically, not in modulus).

    Attributes:
        values: shape `(rank,)`.
        vectors: orthonormal columns, shape `(dim, rank)`.
    """

    values: Array
    vectors: Array


def mean_over_examples(function: Callable[[Batch], Params], data: Batch, chunk_size: int | None = None) -> Params:
    """Mean over the examples of a quantity that is itself a mean over the batch it is given.

    Args:
        function: `batch -> pytree`, the mean over the examples of `batch`.
        data: pytree of arrays with leading axis n.
        chunk_size: examples per call, so that memory does not grow with n; `None`: all at once.

    Raises:
        ValueError: if `chunk_size` is not positive or the leaves of `data` do not share their leading axis.
    """
    n = leading_axis(data)
    if chunk_size is None or chunk_size >= n:
        return function(data)
    if chunk_size < 1:
        raise ValueError(f"chunk_size = {chunk_size}; it must be a positive number of examples, or None for all")
    whole, rest = divmod(n, chunk_size)
    chunks = jax.tree.map(lambda leaf: leaf[: n - rest].reshape(whole, chunk_size, *leaf.shape[1:]), data)
    first = jax.tree.map(lambda leaf: leaf[0], chunks)
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, first))

    def add(total: Params, chunk: Batch) -> tuple[Params, None]:
        return jax.tree.map(jnp.add, total, function(chunk)), None

    total, _ = jax.lax.scan(add, zero, chunks)
    mean = jax.tree.map(lambda leaf: leaf * (chunk_size / n), total)
    if rest == 0:
        return mean
    last = function(jax.tree.map(lambda leaf: leaf[n - rest :], data))
    return jax.tree.map(lambda leaf, extra: leaf + extra * (rest / n), mean, last)


def hessian_vector_product(
    loss_fn: LossFn, params: Params, data: Batch, vector: Params, *, chunk_size: int | None = None
) -> Params:
    """∇²L(w)·v for the mean loss L over `data`, forward over reverse; a pytree like `params`.

    Args:
        loss_fn: `(params, batch) -> losses`, one per example.
        params: w.
        data: pytree of arrays with leading axis n.
        vector: v, a pytree like `params`.
        chunk_size: examples per pass; the result does not depend on it beyond rounding.
    """

    def product(batch: Batch) -> Params:
        gradient = jax.grad(lambda w: jnp.mean(loss_fn(w, batch)))
        return jax.jvp(gradient, (params,), (vector,))[1]

    return mean_over_examples(product, data, chunk_size)


def hessian_matvec(
    loss_fn: LossFn, params: Params, data: Batch, *, chunk_size: int | None = None
) -> Callable[[Array], Array]:
    """∇²L(w) as a function of ravelled vectors, `(dim,) -> (dim,)`, for `top_eigenpairs`.

    A `Partial` whose leaves are `params` and `data`: passed into a jitted function, other values do not recompile.
    """
    return Partial(_product(loss_fn, chunk_size), params, data)


@lru_cache
def _product(loss_fn: LossFn, chunk_size: int | None) -> Callable:
    # The same object for the same settings: two `functools.partial`s are never equal, and would compile twice.
    return partial(_flat_product, loss_fn, chunk_size)


def _flat_product(loss_fn: LossFn, chunk_size: int | None, params: Params, data: Batch, vector: Array) -> Array:
    _, unravel = ravel_pytree(params)
    product = hessian_vector_product(loss_fn, params, data, unravel(vector), chunk_size=chunk_size)
    return ravel_pytree(product)[0]


def top_eigenpairs(
    key: Key[Array, ""],
    matvec: Callable[[Array], Array],
    dim: int,
    rank: int,
    *,
    num_matvecs: int | None = None,
    block_size: int | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> Eigenpairs:
    """The `rank` algebraically largest eigenpairs of a symmetric operator known by its products.

    Exact (up to rounding) when `num_matvecs` reaches `dim`; otherwise every Ritz value is a lower bound of the
    eigenvalue of its order, close for those that stand apart from the rest of the spectrum.

    Args:
        key: typed PRNG key of the first block.
        matvec: `(dim,) -> (dim,)`, linear and symmetric; vmapped over `block_size` vectors.
        dim: size of the operator.
        rank: number of eigenpairs, at most `dim`.
        num_matvecs: products to spend, rounded up to whole blocks, default 2·rank + 32. Memory is `num_matvecs · dim`.
        block_size: vectors per batched product, default up to 32, growing with `rank`. A repeated eigenvalue is found as often as
            this; larger blocks use the machine better and, for equal products, converge less far.
        dtype: of the vectors.

    Raises:
        ValueError: if `rank` is not in 1..dim, or `block_size` or `num_matvecs` cannot give that many pairs.
    """
    if not 1 <= rank <= dim:
        raise ValueError(f"rank = {rank}; it must lie between 1 and dim = {dim}")
    block_size = min(32, max(4, rank // 8), rank + 1) if block_size is None else block_size
    num_matvecs = 2 * rank + 32 if num_matvecs is None else num_matvecs
    if block_size < 1 or num_matvecs < rank:
        raise ValueError(
            f"num_matvecs = {num_matvecs} in blocks of block_size = {block_size} cannot give rank = {rank} eigenpairs"
        )
    num_blocks = -(-num_matvecs // block_size)
    if num_blocks * block_size >= dim:
        matrix = jax.lax.map(matvec, jnp.eye(dim, dtype=dtype), batch_size=block_size)
        values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
        return Eigenpairs(values[::-1][:rank], vectors[:, ::-1][:, :rank])
    start_key, restart_key = jax.random.split(key)
    start = jax.random.normal(start_key, (dim, block_size), dtype)
    return Eigenpairs(*(part[..., :rank] for part in ritz_pairs(restart_key, matvec, start, num_blocks)))


def ritz_pairs(
    restart_key: Key[Array, ""], matvec: Callable[[Array], Array], start: Array, num_blocks: int
) -> Eigenpairs:
    """Rayleigh-Ritz on span{V, AV, ..., A^(q-1) V}: block Lanczos with full reorthogonalisation, q = `num_blocks`.

    Args:
        restart_key: typed PRNG key of the columns that replace an exhausted space.
        matvec: `(dim,) -> (dim,)`, linear and symmetric; vmapped over the columns of `start`.
        start: V, shape `(dim, block)`; `num_blocks · block` is at most `dim`.
        num_blocks: q.

    Returns:
        All `num_blocks · block` Ritz pairs, largest value first.
    """
    dim, block = start.shape
    size = num_blocks * block
    tolerance = 100 * jnp.finfo(start.dtype).eps
    product = jax.vmap(matvec, in_axes=1, out_axes=1)

    def expand(index: Array, carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        basis, projected, current = carry
        basis = jax.lax.dynamic_update_slice_in_dim(basis, current, index * block, axis=1)
        image = product(current)
        overlap = basis.T @ image  # rows of later blocks are zero and are filled in by symmetry below
        projected = jax.lax.dynamic_update_slice_in_dim(projected, overlap, index * block, axis=1)
        following, triangle = jnp.linalg.qr(image - basis @ overlap)
        # Columns that are only rounding mean an exhausted space (low rank, repeated eigenvalues): restart them.
        negligible = jnp.abs(jnp.diagonal(triangle)) <= tolerance * jnp.linalg.norm(image, axis=0).max()
        fresh = jax.random.normal(jax.random.fold_in(restart_key, index), current.shape, current.dtype) / dim**0.5
        following = jnp.where(negligible, fresh, following)
        following = jnp.linalg.qr(following - basis @ (basis.T @ following))[0]
        return basis, projected, following

    zero = (jnp.zeros((dim, size), start.dtype), jnp.zeros((size, size), start.dtype), jnp.linalg.qr(start)[0])
    basis, projected, _ = jax.lax.fori_loop(0, num_blocks, expand, zero)
    upper = jnp.triu(projected)
    values, rotation = jnp.linalg.eigh(upper + jnp.triu(projected, 1).T)
    return Eigenpairs(values[::-1], basis @ rotation[:, ::-1])
