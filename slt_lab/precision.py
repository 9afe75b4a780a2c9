"""The precision of matrix products of a whole process, set before anything is computed."""

import jax

from slt_jax.backend import matmul_precision

__all__ = ["set_precision"]


def set_precision() -> None:
    """On an accelerator, float32 for every matrix product from here on, unless another precision has been asked for
    (JAX_DEFAULT_MATMUL_PRECISION); every start of a run records which."""
    precision = matmul_precision()
    if precision is not None:
        jax.config.update("jax_default_matmul_precision", precision)
