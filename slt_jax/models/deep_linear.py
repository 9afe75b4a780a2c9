"""Deep linear networks, x ↦ W_L … W_1 x: the models whose learning coefficient is known at every point."""

from collections.abc import Sequence
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial
from jaxtyping import Float

from slt_jax.typing import Array, Batch, Params

__all__ = ["DeepLinear", "mean_squared_error", "pack", "packed_squared_error", "params_of"]


class DeepLinear(nn.Module):
    """y = W_L … W_1 x without biases; parameters `{"layer_1": (H_1, H_0), ..., "layer_L": (H_L, H_{L-1})}`.

    Attributes:
        widths: H_0, …, H_L.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.models.deep_linear import DeepLinear
        >>> params = DeepLinear((3, 2, 4)).init(jax.random.key(0), jnp.zeros((1, 3)))["params"]
        >>> params["layer_1"].shape, params["layer_2"].shape
        ((2, 3), (4, 2))
    """

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Float[Array, "batch in"]) -> Float[Array, "batch out"]:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ValueError(f"widths = {self.widths}; a network needs at least two widths, each at least 1")
        init = nn.initializers.xavier_normal()
        shapes = [(fan_out, fan_in) for fan_in, fan_out in pairwise(self.widths)]
        return _apply([self.param(f"layer_{s}", init, shape) for s, shape in enumerate(shapes, 1)], x)


def params_of(matrices: Sequence[Array | np.ndarray]) -> Params:
    """The parameters of `DeepLinear` that are W_1, …, W_L.

    Example:
        >>> import numpy as np
        >>> from slt_jax.models.deep_linear import params_of
        >>> sorted(params_of([np.eye(2), np.eye(2)]))
        ['layer_1', 'layer_2']
    """
    return {f"layer_{s}": jnp.asarray(matrix) for s, matrix in enumerate(matrices, 1)}


def mean_squared_error(params: Params, batch: Batch) -> Float[Array, " batch"]:
    """Mean over the outputs of (f(x) - y)², one loss per example. Not halved: nβ = 1/σ² would go with ½ of a sum.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.models.deep_linear import mean_squared_error
        >>> batch = {"x": jnp.array([[1.0, 2.0]]), "y": jnp.array([[1.0, 0.0]])}
        >>> mean_squared_error({"layer_1": jnp.eye(2)}, batch).tolist()
        [2.0]
    """
    matrices = [params[f"layer_{s}"] for s in range(1, len(params) + 1)]
    return jnp.mean((_apply(matrices, batch["x"]) - batch["y"]) ** 2, axis=-1)


def _apply(matrices: list[Array], x: Array) -> Array:
    """W_L … W_1 x, multiplying the matrices first where that costs less than carrying the batch through the layers."""
    shapes = [matrix.shape for matrix in matrices]
    widths = [shapes[0][1], *(rows for rows, _ in shapes)]
    through = len(x) * sum(rows * columns for rows, columns in shapes)
    from_left = widths[0] * sum(rows * columns for rows, columns in shapes[1:])
    if from_left + len(x) * widths[0] * widths[-1] >= through:
        for matrix in matrices:
            x = x @ matrix.T
        return x
    product = matrices[0]
    for matrix in matrices[1:]:
        product = matrix @ product
    return x @ product.T


def pack(
    matrices: Sequence[np.ndarray], *, num_layers: int, width: int, slots: int
) -> tuple[Params, tuple[Partial, Partial]]:
    """A network in a shape that networks of many widths and depths share, so that they are one compiled program.

    Matrices are padded with zeros to `(width, width)`, missing layers are identities on the outputs. The restriction
    samples the network's own entries alone, as one vector of length `slots`; slots left over touch nothing.

    Args:
        matrices: W_1, …, W_L, W_s of shape (H_s, H_{s-1}).
        num_layers: layers of the padded network, at least L.
        width: its width, at least every H_s.
        slots: length of the sampled vector, at least the number of entries.

    Returns:
        Parameters `{"stack": (num_layers, width, width), "teacher": (width, width), "scale": ()}` for
        `packed_squared_error`, the teacher being the product; and the pair (take, put) for `slt_jax.restrict`.

    Raises:
        ValueError: if the network does not fit.

    Example:
        >>> import numpy as np
        >>> from slt_jax.models.deep_linear import pack
        >>> params, (take, put) = pack([np.ones((2, 3))], num_layers=2, width=4, slots=8)
        >>> params["stack"].shape, take(params).shape
        ((2, 4, 4), (8,))
    """
    sizes = [matrices[0].shape[1], *(len(matrix) for matrix in matrices)]
    entries = sum(matrix.size for matrix in matrices)
    if len(matrices) > num_layers or max(sizes) > width or entries > slots:
        raise ValueError(
            f"a network of {len(matrices)} layers, widths up to {max(sizes)} and {entries} entries does not fit into "
            f"num_layers = {num_layers}, width = {width}, slots = {slots}"
        )
    stack = np.zeros((num_layers, width, width), np.float32)
    slot = np.full(stack.shape, slots, np.int32)
    product, used = np.eye(sizes[0]), 0
    for layer, matrix in enumerate(matrices):
        rows, columns = matrix.shape
        stack[layer, :rows, :columns] = matrix
        slot[layer, :rows, :columns] = np.arange(used, used + matrix.size).reshape(rows, columns)
        used += matrix.size
        product = matrix.astype(np.float64) @ product
    for layer in range(len(matrices), num_layers):
        stack[layer, : sizes[-1], : sizes[-1]] = np.eye(sizes[-1])
    teacher = np.zeros((width, width), np.float32)
    teacher[: sizes[-1], : sizes[0]] = product
    source = np.full(slots, -1, np.int32)
    source[:used] = np.flatnonzero(slot.reshape(-1) < slots)
    params = {"stack": stack, "teacher": teacher, "scale": np.asarray(1 / sizes[-1], np.float32)}
    return params, (
        Partial(_take_slots, jnp.asarray(source)),
        Partial(_put_slots, jnp.asarray(slot), jnp.asarray(source)),
    )


def _take_slots(source: Array, params: Params) -> Array:
    return jnp.where(source < 0, 0.0, params["stack"].reshape(-1)[source])


def _put_slots(slot: Array, source: Array, params: Params, part: Array) -> Params:
    return {**params, "stack": jnp.where(slot == len(part), params["stack"], _spread(slot, source, part))}


@jax.custom_vjp
def _spread(slot: Array, source: Array, part: Array) -> Array:
    """`part[slot]`, zero outside. Backwards it gathers by `source`; the automatic rule would scatter, slow on a CPU."""
    return jnp.append(part, 0.0)[slot]


def _spread_forward(slot: Array, source: Array, part: Array) -> tuple[Array, Array]:
    return jnp.append(part, 0.0)[slot], source


def _spread_backward(source: Array, cotangent: Array) -> tuple[None, None, Array]:
    return None, None, jnp.where(source < 0, 0.0, cotangent.reshape(-1)[source])


_spread.defvjp(_spread_forward, _spread_backward)


def packed_squared_error(params: Params, batch: Batch) -> Float[Array, " block"]:
    """Mean over outputs and over the inputs of a block of ((W_L … W_1 - teacher) x)², one loss per block.

    A block of inputs enters through its second moments, `{"moments": (block, width, width)}` (`data.linear.block_moments`),
    which say all about a quadratic loss at the price of one example. A minibatch is a few blocks.

    Example:
        >>> import jax, numpy as np
        >>> from slt_jax.data.linear import block_moments
        >>> from slt_jax.models.deep_linear import pack, packed_squared_error
        >>> params, _ = pack([np.ones((2, 3))], num_layers=2, width=4, slots=8)
        >>> batch = {"moments": block_moments(jax.random.key(0), width=4, num_examples=40, block_size=20)}
        >>> packed_squared_error(params, batch).tolist()  # the network is its own teacher
        [0.0, 0.0]
    """
    product = params["stack"][0]
    for layer in range(1, len(params["stack"])):
        product = params["stack"][layer] @ product
    residual = product - params["teacher"]
    return params["scale"] * jnp.einsum("oi,bij,oj->b", residual, batch["moments"], residual)
