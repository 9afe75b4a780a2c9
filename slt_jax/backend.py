"""What depends on the kind of device: precision of matrix products, lengths of loops, and barriers.

Everything here asks `jax.default_backend()` while a program is traced; on a CPU it changes nothing.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import jax

__all__ = ["BLOCK", "barrier", "block_of", "full_precision", "matmul_precision", "on_cpu"]

BLOCK = 32
"""Steps of a loop whose length is compiled in. Where it is not, an accelerator asks the host after every step whether it goes on."""
LONGEST_BLOCK, SHORTEST_BLOCK = 64, 8


def on_cpu() -> bool:
    """Whether programs are compiled for a CPU."""
    return jax.default_backend() == "cpu"


def barrier(tree: Any) -> Any:
    """`tree`, which XLA's CPU backend computes once; without it, it computes cheap values again in every product they enter.

    Nothing on accelerators, where fusing them is the faster way.
    """
    return jax.lax.optimization_barrier(tree) if on_cpu() else tree


def matmul_precision() -> str | None:
    """The precision that was asked for (`jax_default_matmul_precision`), or else float32 on an accelerator, whose own default
    rounds factors to TF32 or bfloat16; `None` on a CPU, which has no other than float32."""
    asked = jax.config.values.get("jax_default_matmul_precision")
    return asked or (None if on_cpu() else "float32")


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Within the block, or the function it decorates, matrix products are of `matmul_precision()`.

    TF32 moves a loss by 2e-5, and nβ times that is more than an error bar where n is a million.
    """
    precision = matmul_precision()
    if precision is None:
        yield
        return
    with jax.default_matmul_precision(precision):
        yield


def block_of(*counts: int) -> int:
    """The static length of an inner loop for loops of `counts` steps: 1 on a CPU, where lengths are traced and one program serves
    all; else a common divisor if there is one of a useful size, or `BLOCK`, which leaves a rest."""
    if on_cpu():
        return 1
    common = math.gcd(*counts)
    divisors = [size for size in range(SHORTEST_BLOCK, LONGEST_BLOCK + 1) if common % size == 0]
    return max(divisors, default=BLOCK) if common else BLOCK
