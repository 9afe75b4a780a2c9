"""Standard normal noise in the shape of the parameters, drawn in short even blocks."""

from functools import partial

import jax
import jax.numpy as jnp
from blackjax.sgmcmc import diffusions
from jax.flatten_util import ravel_pytree

from slt_jax.backend import barrier, on_cpu
from slt_jax.typing import Array, Params, PRNGKey

__all__ = ["standard_normal", "standard_normal_vector"]

NOISE_BLOCK = 16_384  # see `standard_normal_vector`


def standard_normal(key: PRNGKey, like: Params) -> Params:
    """N(0, I) in the shape of `like`."""
    flat, unravel = ravel_pytree(like)
    # Behind a barrier, or XLA's CPU backend draws the whole vector again for every leaf that is cut out of it.
    return unravel(barrier(standard_normal_vector(key, flat)))


def standard_normal_vector(key: PRNGKey, like: Array) -> Array:
    """N(0, I) of the length and type of the vector `like`, drawn in blocks of at most `NOISE_BLOCK` numbers.

    Each block is blackjax's overdamped Langevin step h·force + √(2h)·N without force, h = ½. XLA's CPU backend spreads a
    long draw over its threads at every round of the generator, which costs more than it saves, and is several times
    slower yet at odd lengths (benchmarks/noise.py); so blocks are short and even. An accelerator draws the same numbers
    at once.
    """
    count = -(-like.size // NOISE_BLOCK)
    length = -(-like.size // count)
    zeros = jnp.zeros(length + length % 2, like.dtype)
    draw = partial(diffusions.overdamped_langevin(), position=zeros, logdensity_grad=zeros, step_size=0.5)
    if count == 1:
        return draw(key)[: like.size]
    keys = jax.random.split(key, count)
    blocks = jax.lax.map(draw, keys) if on_cpu() else jax.vmap(draw)(keys)
    return blocks.reshape(-1)[: like.size]
