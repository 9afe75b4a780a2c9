"""The tempered posterior localised at a trained parameter, and its restriction to a part of the weights.

    p(w) ∝ exp( -nβ L_n(w) - γ/2 |w - w*|² )        (Lau et al. 2023, arXiv 2308.12108, eq. 8)

A posterior is data: two checkpoints of one model are two pytrees of one structure, and whatever was compiled for the
first runs on the second.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from slt_jax.arguments import check_array, check_count, check_number, describe
from slt_jax.inputs import check_data, check_one_place, check_params
from slt_jax.linalg import mean_over_examples
from slt_jax.restrictions import Restriction, by_layer_and_slice, by_path, by_slice, check_part, check_restriction
from slt_jax.trees import leading_axis, leaf_name, take_examples
from slt_jax.typing import Array, Batch, LossFn, Params, PRNGKey, Scalar

__all__ = [
    "LocalPosterior",
    "Restriction",
    "at_center",
    "by_layer_and_slice",
    "by_path",
    "by_slice",
    "check_loss_fn",
    "check_posterior",
    "check_scalars",
    "default_nbeta",
    "draw_indices",
    "example_losses",
    "minibatch_excess_and_gradient",
    "minibatch_loss",
    "restrict",
]

TRACED_EXAMPLES = 13  # examples of the abstract batch on which the shape of the losses is checked


def default_nbeta(n: int) -> float:
    """The inverse temperature nβ = n / log n of WBIC (Watanabe 2013), for `n` ≥ 2 examples.

    Raises:
        TypeError: if `n` is not a whole number.
        ValueError: if `n` is below 2, where log n is not positive.

    Example:
        >>> from slt_jax import default_nbeta
        >>> round(default_nbeta(10_000), 1)
        1085.7
    """
    if check_count("n", n, least=0) < 2:
        raise ValueError(f"n = {n} examples; the default nbeta = n / log n needs n >= 2")
    return n / math.log(n)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["data", "center", "nbeta", "localization", "restriction", "whole", "center_losses"],
    meta_fields=["loss_fn", "chunk_size"],
)
@dataclass(frozen=True)
class LocalPosterior:
    """p(w) ∝ exp( -nβ L_n(w) - γ/2 |w - w*|² ).

    Every leaf of `center` is a parameter of its own, also where two leaves are one array: weights that are tied in the model
    would come apart, and be counted twice. Keep one leaf, and tie in `loss_fn`:

        def loss_fn(params, batch):
            return model_losses({**params, "unembedding": params["embedding"].T}, batch)

    Attributes:
        loss_fn: `(params, batch) -> losses`, one loss per example, shape `(batch,)`. Static.
        data: pytree of arrays with a shared leading axis of length n.
        center: w*, a pytree of floating-point arrays; under a restriction, the part that is sampled.
        nbeta: the product nβ.
        localization: γ, multiplying ½|w - w*|² (not multiplied by nβ).
        restriction: set by `restrict`.
        whole: the full parameter at w* when a restriction is set.
        center_losses: the n losses at w*, shape `(n,)`, if they have been computed; a paired baseline then gathers
            instead of making a second forward pass.
        chunk_size: examples per pass when a gradient is taken, its parts then added up; `None`: all at once. On a CPU a
            pass whose activations stay in cache is faster: 1.5 times at batch 1,024 of the regression transformer
            (docs/speed.md). Also what bounds memory at large batches. Static.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.array([-1.0, 1.0]), jnp.zeros(()), nbeta=10.0, localization=1.0)
        >>> posterior.n, posterior.losses(posterior.center, posterior.data).tolist()
        (2, [0.5, 0.5])
    """

    loss_fn: LossFn
    data: Batch
    center: Params
    nbeta: Scalar
    localization: Scalar
    restriction: Restriction | None = None
    whole: Params | None = None
    center_losses: Array | None = None
    chunk_size: int | None = None

    @property
    def n(self) -> int:
        """Number of examples the empirical loss averages over."""
        return leading_axis(self.data)

    def full_params(self, params: Params) -> Params:
        """The whole parameter tree in which the sampled part is `params`."""
        return params if self.restriction is None else self.restriction.put(self.whole, params)

    def losses(self, params: Params, batch: Batch) -> Array:
        """Losses of the examples in `batch`, shape `(batch,)`; those of a half-precision model as float32, so that means and
        differences of them are not."""
        losses = self.loss_fn(self.full_params(params), batch)
        half = getattr(losses, "dtype", None) in (jnp.bfloat16, jnp.float16)
        return losses.astype(jnp.float32) if half else losses


def draw_indices(key: PRNGKey, n: int, batch_size: int | None) -> Array | None:
    """Indices of a minibatch, uniform with replacement, shape `(batch_size,)`; `None` stands for all the data.

    Example:
        >>> import jax
        >>> from slt_jax.posterior import draw_indices
        >>> draw_indices(jax.random.key(0), n=100, batch_size=8).shape, draw_indices(jax.random.key(0), 100, None)
        ((8,), None)
    """
    return None if batch_size is None else jax.random.randint(key, (batch_size,), 0, n)


def minibatch_loss(posterior: LocalPosterior, params: Params, indices: Array | None) -> Array:
    """Mean loss over the examples at `indices` (over all of them for `None`), a scalar.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> from slt_jax.posterior import minibatch_loss
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.array([0.0, 2.0]), jnp.zeros(()), 10.0, 1.0)
        >>> [float(minibatch_loss(posterior, posterior.center, which)) for which in (None, jnp.array([1]))]
        [1.0, 2.0]
    """
    batch = posterior.data if indices is None else take_examples(posterior.data, indices)
    return jnp.mean(posterior.losses(params, batch))


def minibatch_excess_and_gradient(
    posterior: LocalPosterior, params: Params, indices: Array | None
) -> tuple[Array, Array, Params]:
    """`minibatch_loss`, its mean excess over the loss at w* on the same examples, and its gradient in `params`.

    The excess is subtracted example by example, before any mean: a large constant in the losses costs no digits. Losses at
    w* are gathered if `center_losses` is known, computed otherwise. One `posterior.chunk_size` after another.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> from slt_jax.posterior import minibatch_excess_and_gradient
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.array([-1.0, 1.0]), jnp.zeros(()), 10.0, 1.0)
        >>> loss, excess, gradient = minibatch_excess_and_gradient(posterior, jnp.asarray(2.0), None)
        >>> float(loss), float(excess), float(gradient)
        (2.5, 2.0, 2.0)
    """
    batch = posterior.data if indices is None else take_examples(posterior.data, indices)
    known = posterior.center_losses
    baseline = known if known is None or indices is None else known[indices]

    def on_part(part: tuple[Batch, Array | None]) -> tuple[Array, Array, Params]:
        examples, at_center = part

        def mean_loss(p: Params) -> tuple[Array, Array]:
            losses = posterior.losses(p, examples)
            return jnp.mean(losses), losses

        (loss, losses), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params)
        at_center = posterior.losses(posterior.center, examples) if at_center is None else at_center
        return loss, jnp.mean(losses - at_center), gradient

    return mean_over_examples(on_part, (batch, baseline), posterior.chunk_size)


def example_losses(posterior: LocalPosterior, params: Params, chunk_size: int = 4096) -> Array:
    """The n losses at `params`, shape `(n,)`, in passes of `chunk_size` examples so that memory does not grow with n.

    Trailing axes of the losses, one per token say, are kept.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> from slt_jax.posterior import example_losses
        >>> loss_fn = lambda w, x: 0.5 * (w - x) ** 2
        >>> posterior = slt_jax.LocalPosterior(loss_fn, jnp.array([0.0, 1.0, 2.0]), jnp.zeros(()), 10.0, 1.0)
        >>> example_losses(posterior, posterior.center, chunk_size=2).tolist()
        [0.0, 0.5, 2.0]
    """
    n = posterior.n
    whole_chunks, rest = divmod(n, chunk_size)
    pieces = []
    if whole_chunks:
        chunked = jax.tree.map(
            lambda leaf: leaf[: whole_chunks * chunk_size].reshape(whole_chunks, chunk_size, *leaf.shape[1:]),
            posterior.data,
        )
        losses = jax.lax.map(lambda batch: posterior.losses(params, batch), chunked)
        pieces.append(losses.reshape(-1, *losses.shape[2:]))
    if rest:
        pieces.append(posterior.losses(params, jax.tree.map(lambda leaf: leaf[n - rest :], posterior.data)))
    return jnp.concatenate(pieces)


def restrict(posterior: LocalPosterior, restriction: Restriction) -> LocalPosterior:
    """The posterior over a part of the weights, the rest fixed at w* (refined LLC; Wang et al. 2024, arXiv 2410.02984).

    No noise, no state and no gradient exists for the rest.

    Raises:
        TypeError: if `posterior` or `restriction` is none.
        ValueError: if `posterior` is restricted already, the restriction takes nothing, or does not put back what it took.

    Example:
        >>> import jax.numpy as jnp, slt_jax
        >>> loss_fn = lambda w, x: 0.5 * (w["a"].sum() + w["b"] - x) ** 2
        >>> w = {"a": jnp.zeros(3), "b": jnp.zeros(())}
        >>> part = slt_jax.restrict(slt_jax.LocalPosterior(loss_fn, jnp.ones(2), w, 10.0, 1.0), slt_jax.by_path("a"))
        >>> {path: leaf.shape for path, leaf in part.center.items()}
        {'a': (3,)}
    """
    check_scalars(posterior)
    if posterior.restriction is not None:
        raise ValueError("posterior is restricted already; restrict the unrestricted one with a single Restriction")
    restriction = check_restriction(restriction)
    part = restriction.take(posterior.center)
    check_part(restriction, posterior.center, part)
    return replace(posterior, center=part, restriction=restriction, whole=posterior.center)


def at_center(posterior: LocalPosterior, params: Params, center_losses: Array | None = None) -> LocalPosterior:
    """The posterior at another w*, the whole tree `params`, under the same restriction; `center_losses` are those there.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.posterior import LocalPosterior, at_center
        >>> posterior = LocalPosterior(lambda w, x: (w - x) ** 2, jnp.zeros(4), jnp.zeros(()), 10.0, 1.0)
        >>> float(at_center(posterior, jnp.ones(())).center)
        1.0
    """
    moved = replace(posterior, center=params, center_losses=center_losses)
    if posterior.restriction is None:
        return moved
    return replace(moved, center=posterior.restriction.take(params), whole=params)


def check_posterior(posterior: LocalPosterior) -> None:
    """Refuse what would fail obscurely later, or give a number of nothing, with one sentence saying what was given.

    Only types, shapes and devices are looked at, and `loss_fn` is traced once on abstract examples.

    Raises:
        TypeError: if `posterior` is none, `loss_fn` is not a function that JAX can trace and hash, or a leaf of data or
            center is not an array.
        ValueError: if data leaves disagree on their leading axis, the center has leaves that are not floating-point or are
            not trained, arrays are deleted or on different devices, nbeta or chunk_size is not positive, localization is
            negative, or `loss_fn` does not return one floating-point loss per example.
    """
    check_scalars(posterior)
    check_loss_fn(posterior.loss_fn)
    n = check_data(posterior.data)
    check_params(posterior.center)
    for path, leaf in jax.tree_util.tree_leaves_with_path(posterior.whole):
        check_array(leaf_name("center (whole)", path), leaf)
    check_one_place(("center", posterior.center), ("center", posterior.whole), ("data", posterior.data))
    if posterior.center_losses is not None and jnp.shape(posterior.center_losses) != (n,):
        raise ValueError(
            f"center_losses has shape {jnp.shape(posterior.center_losses)}; it must be one loss per example, ({n},)"
        )
    _check_losses(posterior, n)


def check_scalars(posterior: LocalPosterior) -> None:
    """The part of `check_posterior` that concerns nbeta, localization and chunk_size."""
    if not isinstance(posterior, LocalPosterior):
        raise TypeError(
            f"posterior is {describe(posterior)}; give LocalPosterior(loss_fn, data, center, nbeta, localization)"
        )
    if posterior.chunk_size is not None:
        check_count("chunk_size", posterior.chunk_size)
    check_number("nbeta", posterior.nbeta, above=True)
    check_number("localization", posterior.localization)


def check_loss_fn(loss_fn: LossFn) -> None:
    """Refuse a `loss_fn` that is not a function, or that a compiled program cannot be found again by.

    Raises:
        TypeError: if it cannot be called or hashed.
    """
    if not callable(loss_fn):
        raise TypeError(f"loss_fn is {describe(loss_fn)}; give a function (params, batch) -> losses")
    try:
        hash(loss_fn)
    except TypeError:
        raise TypeError(
            f"loss_fn is {describe(loss_fn)} that cannot be hashed, and so would compile at every call; give a function, or a "
            "frozen dataclass without arrays"
        ) from None


def _check_losses(posterior: LocalPosterior, n: int) -> None:
    # An unusual size, so that an array of some other meaning is not taken for one loss per example.
    count = min(n, TRACED_EXAMPLES)
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((count, *leaf.shape[1:]), _dtype(leaf)), posterior.data)
    try:
        losses = jax.eval_shape(posterior.losses, posterior.center, batch)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError) as error:
        raise TypeError(
            f"loss_fn needs numbers while JAX traces it ({type(error).__name__}); write it with jax.numpy, without "
            "numpy, float(), or `if` on the values of an array"
        ) from error
    shape, dtype = getattr(losses, "shape", None), getattr(losses, "dtype", None)
    if shape != (count,):
        raise ValueError(
            f"loss_fn returned {_returned(losses)} for a batch of {count} examples; it must return one loss per example, "
            f"shape ({count},), {_remedy(losses, count)}"
        )
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"loss_fn returned losses of dtype {dtype}; they must be floating-point numbers")


def _dtype(leaf: Array) -> Any:
    return leaf.dtype if isinstance(leaf, jax.Array) else jnp.result_type(leaf)  # numpy's float64 becomes JAX's float


def _returned(losses: Any) -> str:
    if losses is None:
        return "nothing (None)"
    shape = getattr(losses, "shape", None)
    return f"a {type(losses).__name__}" if shape is None else f"shape {shape}"


def _remedy(losses: Any, count: int) -> str:
    shape = getattr(losses, "shape", None)
    if isinstance(losses, tuple | list | dict):
        return "and nothing beside it"
    if shape == (count, 1):
        return "so drop the last axis with losses[:, 0]"
    if shape is not None and len(shape) > 1 and shape[0] == count:
        return "so average over the other axes"
    return "and leave the mean to the library"
