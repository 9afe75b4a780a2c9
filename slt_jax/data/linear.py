"""Random linear teachers: deep linear networks as drawn by the published accuracy study of LLC estimates, and their data.

    W_s Xavier-normal, rank-reduced with probability ½;  x ~ U[-10, 10]^H₀;  y = W_L … W_1 x, without noise

Source: Lau et al. 2023 (arXiv 2308.12108, appendix J), Furman & Lau 2024 (arXiv 2402.03698).
"""

from dataclasses import dataclass
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from slt_jax.typing import Array, Batch, PRNGKey

__all__ = ["DeepLinearTeacher", "block_moments", "random_deep_linear", "teacher_data"]


@dataclass(frozen=True)
class DeepLinearTeacher:
    """A deep linear network whose ranks are known because they were made.

    Attributes:
        matrices: W_1, …, W_L; W_s has shape (H_s, H_{s-1}) and acts on columns.
        widths: H_0, …, H_L.
        ranks: `(L+1, L+1)` table for `theory.deep_linear_network_local`: entry [i, j] is rank(W_j … W_{i+1}).

    Example:
        >>> from slt_jax.data.linear import random_deep_linear
        >>> teacher = random_deep_linear(0, num_layers=(2, 2), widths=(3, 5), reduced_share=0.0)
        >>> len(teacher.matrices), len(teacher.widths), teacher.ranks.shape
        (2, 3, (3, 3))
    """

    matrices: tuple[np.ndarray, ...]
    widths: tuple[int, ...]
    ranks: np.ndarray


def random_deep_linear(
    seed: int, *, num_layers: tuple[int, int], widths: tuple[int, int], reduced_share: float = 0.5
) -> DeepLinearTeacher:
    """A random network: layers and widths uniform in their (inclusive) ranges, entries of variance 2/(H_s + H_{s-1}).

    Each matrix loses, with probability `reduced_share`, a number of its smallest singular values, uniform between one
    and all but one. Subspaces in general position keep what they can, so a product has the smallest rank of its factors.

    Raises:
        ValueError: if a range is empty or starts below 1.

    Example:
        >>> from slt_jax.data.linear import random_deep_linear
        >>> teacher = random_deep_linear(0, num_layers=(2, 2), widths=(4, 4), reduced_share=0.0)
        >>> teacher.widths, int(teacher.ranks[0, -1])
        ((4, 4, 4), 4)
    """
    for name, (low, high) in {"num_layers": num_layers, "widths": widths}.items():
        if not 1 <= low <= high:
            raise ValueError(f"{name} = ({low}, {high}); give a range low <= high that starts at 1 or above")
    rng = np.random.default_rng(seed)
    layers = int(rng.integers(num_layers[0], num_layers[1] + 1))
    sizes = tuple(int(width) for width in rng.integers(widths[0], widths[1] + 1, layers + 1))
    matrices, kept = [], []
    for fan_in, fan_out in pairwise(sizes):
        matrix = np.sqrt(2 / (fan_in + fan_out)) * rng.standard_normal((fan_out, fan_in))
        rank = min(fan_in, fan_out)
        if rng.random() < reduced_share:
            rank -= int(rng.integers(1, rank)) if rank > 1 else 0
            left, values, right = np.linalg.svd(matrix, full_matrices=False)
            matrix = (left[:, :rank] * values[:rank]) @ right[:rank]
        matrices.append(matrix.astype(np.float32))
        kept.append(rank)
    table = np.diag(np.array(sizes))
    for i in range(layers):
        for j in range(i + 1, layers + 1):
            table[i, j] = min(kept[i:j])
    return DeepLinearTeacher(tuple(matrices), sizes, table)


def teacher_data(
    key: PRNGKey, product: Float[Array, "out in"], num_examples: int, *, half_width: float = 10.0
) -> Batch:
    """`{"x": (n, in), "y": (n, out)}` with x uniform in [-half_width, half_width] and y = product x, exactly.

    Raises:
        ValueError: if `num_examples` is below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.data.linear import teacher_data
        >>> data = teacher_data(jax.random.key(0), jnp.array([[2.0, 0.0]]), 5)
        >>> data["x"].shape, data["y"].shape, bool(jnp.allclose(data["y"][:, 0], 2 * data["x"][:, 0]))
        ((5, 2), (5, 1), True)
    """
    if num_examples < 1:
        raise ValueError(f"num_examples = {num_examples}; an empirical loss needs at least one example")
    x = jax.random.uniform(key, (num_examples, product.shape[1]), minval=-half_width, maxval=half_width)
    return {"x": x, "y": jnp.dot(x, product.T, precision=jax.lax.Precision.HIGHEST)}


def block_moments(
    key: PRNGKey, width: int, num_examples: int, block_size: int, *, half_width: float = 10.0
) -> Float[Array, "block width width"]:
    """Mean of x xᵀ over each block of `block_size` inputs, x uniform in [-half_width, half_width].

    The squared error of a linear map depends on its inputs through these alone.

    Raises:
        ValueError: if the blocks do not divide the examples.

    Example:
        >>> import jax
        >>> from slt_jax.data.linear import block_moments
        >>> block_moments(jax.random.key(0), width=3, num_examples=100, block_size=20).shape
        (5, 3, 3)
    """
    if num_examples < 1 or block_size < 1 or num_examples % block_size:
        raise ValueError(f"num_examples = {num_examples} does not divide into blocks of block_size = {block_size}")

    def moments(block_key: Array) -> Array:
        x = jax.random.uniform(block_key, (block_size, width), minval=-half_width, maxval=half_width)
        return jnp.dot(x.T, x, precision=jax.lax.Precision.HIGHEST) / block_size

    return jax.lax.map(moments, jax.random.split(key, num_examples // block_size))
