"""A transformer trained on fresh sequences of in-context linear regression, one subject for each training seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial

import jax
import optax

from slt_jax.data.in_context_regression import sample_sequences
from slt_jax.models.regression_transformer import RegressionTransformer, squared_error_loss, tokens
from slt_jax.training.loop import BatchFn, triangle_schedule
from slt_jax.typing import Array, Batch, Params, PRNGKey
from slt_lab.streams import stream
from slt_lab.subject import Subject

__all__ = ["RegressionSubject", "initial_params", "posterior_sequences", "regression_subject", "sequences"]


@dataclass(frozen=True, kw_only=True)
class RegressionSubject(Subject):
    """One training of `model`.

    Its `posterior_data(n)` are n sequences that are the same for every seed, and so is the noise of its chains.
    """

    model: RegressionTransformer


def regression_subject(
    seed: int,
    model: RegressionTransformer,
    *,
    num_steps: int,
    schedule_steps: int,
    peak_learning_rate: float,
    batch_size: int,
    save_at: Sequence[int] = (0,),
) -> RegressionSubject:
    """Adam with a triangular learning rate on fresh sequences.

    Args:
        seed: of the initial parameters and of the training sequences.
        model: says the dimension of a task and the length of a sequence too.
        num_steps: steps taken. The schedule does not depend on it: a longer run goes on from a shorter one.
        schedule_steps, peak_learning_rate: the triangle, its peak at half of its length.
        batch_size: sequences of a step.
        save_at: steps whose parameters are kept in any case.
    """
    return RegressionSubject(
        name=f"seed_{seed}",
        identity=(seed, batch_size, schedule_steps, peak_learning_rate, _shape(model)),
        model=model,
        loss_fn=squared_error_loss(model),
        init=partial(initial_params, model, seed),
        posterior_data=partial(posterior_sequences, model),
        chains_key=stream("regression/chains"),
        num_steps=num_steps,
        batches=_batches(model, batch_size),
        optimizer=_adam(schedule_steps, peak_learning_rate),
        training_key=stream("regression/training", seed),
        save_at=save_at,
    )


def _shape(model: RegressionTransformer) -> tuple[tuple[str, int], ...]:
    names = ("task_dim", "num_examples", "width", "num_heads", "num_layers", "hidden")
    return tuple((name, getattr(model, name)) for name in names)


def sequences(
    model: RegressionTransformer, key: PRNGKey, count: int, *, input_scale: float = 1.0, task_scale: float = 1.0
) -> Batch:
    """Fresh sequences of the length and dimension that `model` reads; scales as of `sample_sequences`."""
    return sample_sequences(
        key, count, task_dim=model.task_dim, num_examples=model.num_examples, input_scale=input_scale, task_scale=task_scale
    )  # fmt: skip


def initial_params(model: RegressionTransformer, seed: int) -> Params:
    """The parameters before training."""
    key = stream("regression/init", seed)
    return model.init(key, tokens(sequences(model, key, 1)))["params"]


@lru_cache(maxsize=1)  # the same at every checkpoint of every seed
def posterior_sequences(model: RegressionTransformer, count: int) -> Batch:
    """The `count` fixed sequences of the empirical loss."""
    return sequences(model, stream("regression/posterior data"), count)


# One object for equal settings: all seeds are trained by one compiled program.


@cache
def _batches(model: RegressionTransformer, batch_size: int) -> BatchFn:
    return partial(_fresh_batch, model, batch_size)


@cache
def _adam(schedule_steps: int, peak_learning_rate: float) -> optax.GradientTransformation:
    return optax.adam(triangle_schedule(schedule_steps, peak_learning_rate))


def _fresh_batch(model: RegressionTransformer, batch_size: int, key: jax.Array, step: Array, data: None) -> Batch:
    del step, data  # the key is folded with the step already
    return sequences(model, key, batch_size)
