"""What `transient-ridge` trains and asks: a transformer for each task set, its path between two predictors, its final LLC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from configs.transient_ridge import TransientRidge
from slt_jax.data.in_context_regression import dmmse_predictions, ridge_predictions, sample_sequences, sample_tasks
from slt_jax.models.regression_transformer import RegressionTransformer, predictions, squared_error_loss, tokens
from slt_jax.training.loop import checkpoint_steps, triangle_schedule
from slt_jax.typing import Array, Batch, Params, PRNGKey
from slt_lab.folder import RunFolder
from slt_lab.measure import Measure, Variable
from slt_lab.measures.llc import LLC
from slt_lab.streams import stream
from slt_lab.subject import Subject

__all__ = ["Path", "measures", "subjects", "task_set"]

NUM_PATH_SEQUENCES = 256  # of the fixed batch of fresh tasks whose outputs make the joint PCA


def subjects(config: TransientRidge, folder: RunFolder) -> dict[int, Subject]:
    """One training for each number of tasks."""
    del folder
    return {count: _subject(config, count) for count in config.num_tasks}


def measures(config: TransientRidge) -> list[Measure]:
    """The path at every kept step, and the LLC at the end."""
    return [Path(config), LLC(replace(config.sampling, checkpoint_steps=(config.training.num_steps,)))]


def regression_model(config: TransientRidge) -> RegressionTransformer:
    """The transformer of `config`."""
    shape = config.model
    return RegressionTransformer(
        config.task_dim, config.num_examples, shape.width, shape.num_heads, shape.num_layers, shape.hidden
    )  # fmt: skip


def task_set(config: TransientRidge, num_tasks: int) -> Array:
    """The first `num_tasks` tasks, shape `(M, D)`: every smaller set is part of every larger one."""
    return sample_tasks(stream("task sets/tasks", config.seed), num_tasks, task_dim=config.task_dim)


def _sequences(config: TransientRidge, key: PRNGKey, count: int, tasks: Array | None) -> Batch:
    return sample_sequences(
        key, count, task_dim=config.task_dim, num_examples=config.num_examples, noise_variance=config.noise_variance,
        tasks=tasks,
    )  # fmt: skip


def _training_batch(config: TransientRidge, key: PRNGKey, step: Array, tasks: Array) -> Batch:
    del step  # the key is folded with the step already
    return _sequences(config, key, config.training.batch_size, tasks)


def _subject(config: TransientRidge, num_tasks: int) -> Subject:
    training, tasks, seed = config.training, task_set(config, num_tasks), config.seed
    model, init_key = regression_model(config), stream("task sets/init", seed)  # the same for every task set
    spread = checkpoint_steps(training.num_steps, training.num_log_checkpoints, training.num_linear_checkpoints)
    return Subject(
        name=f"tasks_{num_tasks}",
        identity=(
            num_tasks, seed, config.task_dim, config.num_examples, config.noise_variance, config.model, training.num_steps,
            training.peak_learning_rate, training.batch_size,
        ),
        loss_fn=squared_error_loss(model),
        init=lambda: model.init(init_key, tokens(_sequences(config, init_key, 1, None)))["params"],
        posterior_data=lambda count: _sequences(config, stream("task sets/posterior data", seed), count, tasks),
        chains_key=stream("task sets/chains", seed),
        num_steps=training.num_steps,
        batches=partial(_training_batch, config),
        optimizer=optax.adam(triangle_schedule(training.num_steps, training.peak_learning_rate)),
        training_key=stream("task sets/training", seed),
        save_at=sorted({0, *spread}),
        data=tasks,
    )  # fmt: skip


@dataclass(frozen=True)
class Path:
    """Losses on training and fresh tasks, and distances to the two predictors that bound what can be learned."""

    config: TransientRidge
    name: str = "path"
    axis: str = "step"

    def __repr__(self) -> str:
        config = self.config  # what is evaluated on; the rest is the subject's
        return f"Path({config.seed}, {config.num_evaluation_sequences})"

    def steps(self, subject: Subject) -> Sequence[int]:
        return subject.save_at

    def take(self, subject: Subject, params: Params) -> Mapping[str, Any]:
        config, tasks = self.config, subject.data
        keys = jax.random.split(stream("task sets/evaluation", config.seed))
        row: dict[str, Array] = {}
        for where, key, drawn_from in zip(("trained", "fresh"), keys, (tasks, None), strict=True):
            batch = _sequences(config, key, config.num_evaluation_sequences, drawn_from)
            known = _known_predictions(batch, tasks, config.noise_variance)
            row |= _compare(regression_model(config), params, batch, known, where)
        return row

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        del subject
        squared, found = "squared units", {}
        for where in ("trained", "fresh"):
            found[f"loss_{where}"] = Variable((), f"mean squared error on {where} tasks", squared)
            for name in ("ridge", "dmmse"):
                found[f"to_{name}_{where}"] = Variable((), f"mean squared distance to {name} on {where} tasks", squared)
                found[f"{name}_loss_{where}"] = Variable((), f"mean squared error of {name} on {where} tasks", squared)
        for name in ("outputs", "ridge_outputs", "dmmse_outputs"):
            found[name] = Variable(("output",), "predictions on a fixed batch of fresh tasks", "units of y")
        return found

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        del subject
        return {}


@partial(jax.jit, static_argnames="noise_variance")
def _known_predictions(batch: Batch, tasks: Array, noise_variance: float) -> dict[str, Array]:
    """What both predictors say; the same at every checkpoint."""
    return {
        "ridge": ridge_predictions(batch, noise_variance),
        "dmmse": dmmse_predictions(batch, tasks, noise_variance),
    }


@partial(jax.jit, static_argnames=("model", "where"))
def _compare(
    model: RegressionTransformer, params: Params, batch: Batch, known: dict[str, Array], where: str
) -> dict[str, Array]:
    predicted = predictions(model, params, batch)
    row = {f"loss_{where}": jnp.mean((predicted - batch["y"]) ** 2)}
    for name, other in known.items():
        row[f"to_{name}_{where}"] = jnp.mean((predicted - other) ** 2)
        row[f"{name}_loss_{where}"] = jnp.mean((other - batch["y"]) ** 2)
    if where == "fresh":
        shown = {"outputs": predicted} | {f"{name}_outputs": other for name, other in known.items()}
        row |= {name: jnp.ravel(values[:NUM_PATH_SEQUENCES]) for name, values in shown.items()}
    return row
