"""Runs of SGD from small random weights: their losses, the curvature on their way, and the plateaus they rest on."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from configs.superposition import Training
from experiments.superposition.landscape import curvatures, descend, loss_of, unravel
from slt_jax.models.superposition import example_losses, initial_params, sample_examples
from slt_jax.typing import Array, PRNGKey

__all__ = ["LEVEL", "SADDLE", "SHORTEST", "Plateau", "plateaus", "train"]

SADDLE = -0.03
"""A most negative Hessian eigenvalue at or below this is a saddle's. At minima SGD's own noise and the kinks give -0.01."""
LEVEL, SHORTEST = 0.0015, 5
"""A plateau: at least this many records in a row whose losses stay within LEVEL of each other."""


class Plateau(NamedTuple):
    """A stretch of a run where the loss stays.

    Attributes:
        first, last: indices of its records.
        loss: mean.
        lowest_curvature: median over the stretch of the most negative Hessian eigenvalue.
    """

    first: int
    last: int
    loss: float
    lowest_curvature: float

    @property
    def is_saddle(self) -> bool:
        """Whether it is no minimum, and so has no LLC."""
        return self.lowest_curvature <= SADDLE


def train(key: PRNGKey, settings: Training, features: int) -> dict[str, np.ndarray]:
    """Runs at evenly spaced records: exact loss, lowest curvature and the loss that descent from there ends at, `(run, record)`;
    points `(run, record, parameter)`."""
    keys = jax.random.split(key, settings.num_runs)
    points = _runs(keys, settings, features)
    flat = points.reshape(-1, points.shape[-1])
    losses = jax.lax.map(partial(loss_of, features), flat)
    lowest = jax.lax.map(lambda point: curvatures(point, features)[0], flat)
    ends = jax.lax.map(partial(loss_of, features), descend(flat, features))
    shape = points.shape[:2]
    return {
        "points": np.asarray(points), "loss": np.asarray(losses).reshape(shape),
        "lowest_curvature": np.asarray(lowest).reshape(shape), "step": record_steps(settings),
        "end": np.asarray(ends).reshape(shape),
    }  # fmt: skip


def record_steps(settings: Training) -> np.ndarray:
    """Steps after which a run is recorded."""
    return settings.num_steps // settings.num_records * np.arange(1, settings.num_records + 1)


@partial(jax.jit, static_argnames=("settings", "features"))
def _runs(keys: PRNGKey, settings: Training, features: int) -> Array:
    def gradient(point: Array, batch: dict) -> Array:
        return jax.grad(lambda at: jnp.mean(example_losses(unravel(features, at), batch)))(point)

    def run(key: PRNGKey) -> Array:
        start = ravel_pytree(initial_params(jax.random.fold_in(key, 0), features, settings.weight_scale))[0]

        def step(point: Array, index: Array) -> tuple[Array, None]:
            batch = sample_examples(jax.random.fold_in(key, 1 + index), settings.batch_size, features)
            return point - settings.learning_rate * gradient(point, batch), None

        def to_record(point: Array, indices: Array) -> tuple[Array, Array]:
            point = jax.lax.scan(step, point, indices)[0]
            return point, point

        per_record = settings.num_steps // settings.num_records
        steps = jnp.arange(per_record * settings.num_records).reshape(settings.num_records, per_record)
        return jax.lax.scan(to_record, start, steps)[1]

    return jax.vmap(run)(keys)


def plateaus(loss: np.ndarray, lowest_curvature: np.ndarray) -> list[Plateau]:
    """The plateaus of one run, in order; its end is one if it rests there."""
    found, first = [], 0
    for index in range(1, len(loss) + 1):
        stretch = loss[first : index + 1]
        if index < len(loss) and stretch.max() - stretch.min() <= LEVEL:
            continue
        if index - first >= SHORTEST:
            here = slice(first, index)
            found.append(Plateau(first, index - 1, float(loss[here].mean()), float(np.median(lowest_curvature[here]))))
        first = index
    return found
