"""Derivatives of the loss at w*, all from one compiled program, which the look and the calibration share.

One Hessian-vector product, forward over reverse, brings the gradient and every example's slope along the vector with it:

    f(w) = Σ cᵢ lᵢ(w):    ∇f,    ∇²f·v,    (∇lᵢ·v)ᵢ

A program is compiled for one number of examples; everything that is small, random numbers included, is numpy's, which
compiles nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from slt_jax.posterior import LocalPosterior, example_losses
from slt_jax.trees import leaf_name, num_parameters, take_examples
from slt_jax.typing import Array, Params, PRNGKey

__all__ = [
    "CENTER_CHUNK",
    "Center",
    "Ritz",
    "center_losses",
    "check_finite_center",
    "generator",
    "losses_at",
    "no_direction",
    "ritz_space",
    "top_eigenvalue",
]

CENTER_CHUNK = 4096  # examples per pass of the losses at w*
LARGEST_CHUNK, CHUNK_NUMBERS = 1024, 2**22  # a chunk has at most so many examples, and examples x parameters
LARGEST_COUNT, LARGEST_PASSES = 8192, 128


def generator(key: PRNGKey, stream: int) -> np.random.Generator:
    """Random numbers of the host: a stream of `key`."""
    return np.random.default_rng([*np.asarray(jax.random.key_data(key)).ravel().tolist(), stream])


@dataclass(frozen=True, eq=False)
class Center:
    """Some examples of a posterior, and derivatives of their loss at w*.

    Attributes:
        posterior: its arrays on the devices.
        chunks: numbers of the examples, each once, `(chunk, example)`; the last chunk is filled up.
        count: how many examples there are, the filling left out.
    """

    posterior: LocalPosterior
    chunks: np.ndarray
    count: int

    @classmethod
    def of(
        cls,
        rng: np.random.Generator,
        posterior: LocalPosterior,
        batch_size: int | None,
        chunk_size: int | None = None,
    ) -> "Center":
        """At most 8,192 examples at random; a chunk has the size of a batch, or more where the model is small."""
        small = max(1, CHUNK_NUMBERS // num_parameters(posterior.center))
        limit = min(LARGEST_CHUNK, max(small, batch_size or posterior.n), posterior.chunk_size or LARGEST_CHUNK)
        limit = limit if chunk_size is None else chunk_size
        count = min(posterior.n, LARGEST_COUNT, LARGEST_PASSES * limit)
        passes = -(-count // limit)
        numbers = rng.choice(posterior.n, count, replace=False)
        filled = np.resize(numbers, passes * -(-count // passes)).reshape(passes, -1)
        placed = replace(posterior, center_losses=None)
        for name in ("data", "center", "whole"):
            placed = replace(placed, **{name: jax.tree.map(jnp.asarray, getattr(posterior, name))})
        return cls(placed, filled, count)

    @property
    def numbers(self) -> np.ndarray:
        """Numbers of the examples, `(count,)`."""
        return self.chunks.ravel()[: self.count]

    def derivatives(self, vectors: np.ndarray, most: int | None = None) -> "Derivatives":
        """Over the first examples, at most `most`, along ravelled `vectors`, `(vector, parameters)`."""
        size, dim = self.chunks.shape[1], vectors.shape[1]
        count = self.count if most is None else min(self.count, most)
        chunks = self.chunks[: -(-count // size)]
        weights = (np.arange(chunks.size) < count).reshape(chunks.shape).astype(vectors.dtype) / count
        # All are under way before the first is waited for.
        found = [
            [_derivatives(self.posterior, indices, some, vector) for indices, some in zip(chunks, weights, strict=True)]
            for vector in vectors
        ]
        parts = np.stack([np.stack([np.asarray(part) for part in each]) for each in found])
        gradient, products, slopes, _ = np.split(parts, [dim, 2 * dim, 2 * dim + size], axis=2)
        return Derivatives(gradient[0].sum(axis=0), products.sum(axis=1), slopes.reshape(len(vectors), -1)[:, :count])

    def first_chunk(self, params: Params) -> tuple[np.ndarray, np.ndarray]:
        """Gradient of the mean loss of the first chunk, and its losses, at `params`: by the program of `derivatives`, so that
        nothing more is compiled."""
        size, vector = self.chunks.shape[1], no_direction(self.posterior.center)[0]
        moved = replace(self.posterior, center=params)
        found = np.asarray(_derivatives(moved, self.chunks[0], np.full(size, 1 / size, vector.dtype), vector))
        return found[: vector.size], found[-size:]


class Derivatives(NamedTuple):
    """Over m examples at w*, in k directions v: `gradient` of the mean loss, `(parameters,)`, `products` ∇²L·v, `(k, parameters)`,
    and `slopes` ∇lᵢ·v, `(k, m)`."""

    gradient: np.ndarray
    products: np.ndarray
    slopes: np.ndarray


@jax.jit
def _derivatives(posterior: LocalPosterior, indices: Array, weights: Array, vector: Array) -> Array:
    """Σcᵢ∇lᵢ, Σcᵢ∇²lᵢ·v, the slopes ∇lᵢ·v and the losses, one after another."""
    examples = take_examples(posterior.data, indices)
    flat, unravel = ravel_pytree(posterior.center)

    def weighted(params: Any) -> tuple[Array, Array]:
        losses = posterior.losses(params, examples)
        return jnp.vdot(weights.astype(losses.dtype), losses), losses

    tangent = unravel(vector.astype(flat.dtype))
    (gradient, losses), (product, slopes) = jax.jvp(jax.grad(weighted, has_aux=True), (posterior.center,), (tangent,))
    return jnp.concatenate([ravel_pytree(gradient)[0], ravel_pytree(product)[0], slopes, losses])


def no_direction(center: Params) -> np.ndarray:
    """No direction at all, `(1, parameters)`, in the number type of the parameters."""
    return np.zeros((1, num_parameters(center)), jnp.result_type(*jax.tree.leaves(center)))


def losses_at(posterior: LocalPosterior, params: Params, indices: np.ndarray) -> np.ndarray:
    """Losses of the examples at `indices`, side by side, at `params`."""
    return np.asarray(_losses(posterior, params, indices))


@jax.jit
def _losses(posterior: LocalPosterior, params: Params, indices: Array) -> Array:
    return posterior.losses(params, take_examples(posterior.data, indices))


def center_losses(posterior: LocalPosterior, chunk: int = CENTER_CHUNK) -> Array:
    """All n losses at w*, `chunk` examples at a time."""
    return _center_losses(posterior, min(chunk, posterior.n))


@partial(jax.jit, static_argnames="chunk")
def _center_losses(posterior: LocalPosterior, chunk: int) -> Array:
    return example_losses(posterior, posterior.center, chunk)


def check_finite_center(posterior: LocalPosterior) -> None:
    """Refuse a w* that holds a value that is not finite."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(posterior.full_params(posterior.center)):
        bad = ~np.isfinite(np.asarray(leaf, np.float64))
        if bad.any():
            raise ValueError(
                f"{leaf_name('center', path)} holds {bad.sum()} value(s) that are not finite; load or train w* again"
            )


class Ritz(NamedTuple):
    """Rayleigh-Ritz pairs of ∇²L: `values` `(direction,)`, orthonormal `vectors` `(parameters, direction)`, and the slopes of
    every example along them, `(example, direction)`."""

    values: np.ndarray
    vectors: np.ndarray
    slopes: np.ndarray


def ritz_space(product: Callable[[np.ndarray], Derivatives], start: np.ndarray, num_blocks: int) -> Ritz:
    """Rayleigh-Ritz on the span of V, AV, ..., A^(q-1)V, V = `start`, q = `num_blocks`; `linalg.ritz_pairs` is its like on
    devices, for spaces of hundreds of vectors."""
    basis, images, slopes = start[:, :0], start[:, :0], []
    block = start
    for _ in range(num_blocks):
        # QR of basis and block together: columns of an exhausted space come out as some orthonormal ones.
        block = np.linalg.qr(np.hstack([basis, block]))[0][:, basis.shape[1] :]
        found = product(np.ascontiguousarray(block.T))
        basis, block = np.hstack([basis, block]), found.products.T
        images = np.hstack([images, block])
        slopes.append(found.slopes.T)
        if not np.isfinite(block).all():
            return Ritz(np.full(basis.shape[1], np.nan), basis, np.hstack(slopes))
    matrix = basis.T.astype(np.float64) @ images
    values, rotation = np.linalg.eigh((matrix + matrix.T) / 2)
    rotation = rotation.astype(basis.dtype)
    return Ritz(values, basis @ rotation, np.hstack(slopes) @ rotation)


def top_eigenvalue(
    product: Callable[[np.ndarray], np.ndarray], start: np.ndarray, num_iterations: int, tolerance: float = 1e-3
) -> float:
    """The largest eigenvalue in modulus by power iteration, until it changes by less than `tolerance`."""
    vector, value = start / np.linalg.norm(start), 0.0
    for _ in range(num_iterations + 1):
        image = product(vector)
        previous, value = value, abs(float(vector @ image))
        size = np.linalg.norm(image)
        if not size > 0 or abs(value - previous) <= tolerance * value:
            break
        vector = image / size
    return value
