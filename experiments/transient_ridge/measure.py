"""The computing half of `transient-ridge`: one training run per number of tasks, its path, and the LLC at its end."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray

from configs.transient_ridge import TransientRidge
from experiments.llc_pieces import llc_dataset, llc_piece
from experiments.run_folder import RunFolder
from slt_jax.data.in_context_regression import dmmse_predictions, ridge_predictions, sample_sequences, sample_tasks
from slt_jax.models.regression_transformer import RegressionTransformer, predictions, squared_error_loss, tokens
from slt_jax.posterior import LocalPosterior
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample
from slt_jax.sampling.sgld import sgld
from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.training.loop import checkpoint_steps, train, triangle_schedule
from slt_jax.typing import Array, Batch, Params, PRNGKey

__all__ = ["regression_model", "run", "task_set"]

# One stream per use, folded into the seed's key.
INIT, TRAINING, TASKS, EVALUATION, POSTERIOR_DATA, CHAINS = range(6)
NUM_PATH_SEQUENCES = 256  # of the fixed batch of fresh tasks whose outputs make the joint PCA


def run(config: TransientRidge, folder: RunFolder) -> list[str]:
    """Compute whatever is not in `folder` yet; returns one sentence for every estimate with a diverged chain."""
    paths, estimates = [], {}
    for num_tasks in config.num_tasks:
        train_on(config, folder, num_tasks)
        paths.append(measure_path(config, folder, num_tasks))
        estimates[num_tasks] = {config.training.num_steps: final_llc(config, folder, num_tasks)}
    llcs = llc_dataset(estimates).rename(seed="num_tasks")
    axis = xarray.DataArray(list(config.num_tasks), dims="num_tasks", name="num_tasks")
    folder.write_results(xarray.merge([xarray.concat(paths, axis), llcs]))
    return [
        f"M = {num_tasks}: {piece['status']}"
        for num_tasks, pieces in estimates.items()
        for piece in pieces.values()
        if piece["diverged"].any()
    ]


def regression_model(config: TransientRidge) -> RegressionTransformer:
    """The transformer of `config`."""
    shape = config.model
    return RegressionTransformer(
        config.task_dim, config.num_examples, shape.width, shape.num_heads, shape.num_layers, shape.hidden
    )  # fmt: skip


def _key(config: TransientRidge, use: int) -> PRNGKey:
    return jax.random.fold_in(jax.random.key(config.seed), use)


def task_set(config: TransientRidge, num_tasks: int) -> Array:
    """The first `num_tasks` tasks, shape `(M, D)`: every smaller set is part of every larger one."""
    return sample_tasks(_key(config, TASKS), num_tasks, task_dim=config.task_dim)


def _sequences(config: TransientRidge, key: PRNGKey, count: int, tasks: Array | None) -> Batch:
    return sample_sequences(
        key, count, task_dim=config.task_dim, num_examples=config.num_examples, noise_variance=config.noise_variance,
        tasks=tasks,
    )  # fmt: skip


def _training_batch(config: TransientRidge, key: PRNGKey, step: Array, tasks: Array) -> Batch:
    del step  # the key is folded with the step already
    return _sequences(config, key, config.training.batch_size, tasks)


def initial_params(config: TransientRidge) -> Params:
    """The parameters before training, the same for every task set."""
    example = _sequences(config, _key(config, INIT), 1, None)
    return regression_model(config).init(_key(config, INIT), tokens(example))["params"]


def saved_steps(config: TransientRidge) -> list[int]:
    """The steps whose parameters are kept."""
    training = config.training
    spread = checkpoint_steps(training.num_steps, training.num_log_checkpoints, training.num_linear_checkpoints)
    return sorted({0, *spread})


def _store(folder: RunFolder, num_tasks: int) -> CheckpointStore:
    return CheckpointStore(folder.path / "checkpoints" / f"tasks_{num_tasks}")


def train_on(config: TransientRidge, folder: RunFolder, num_tasks: int) -> None:
    """Train on `num_tasks` tasks to the end, from wherever the store stands."""
    store, training = _store(folder, num_tasks), config.training
    if store.steps() and store.steps()[-1] >= training.num_steps:
        return
    with progress_bar(f"training, M = {num_tasks}", training.num_steps) as update:
        train(
            _key(config, TRAINING),
            squared_error_loss(regression_model(config)),
            initial_params(config),
            partial(_training_batch, config),
            optax.adam(triangle_schedule(training.num_steps, training.peak_learning_rate)),
            num_steps=training.num_steps,
            store=store,
            save_at=saved_steps(config),
            data=task_set(config, num_tasks),
            on_progress=lambda step, loss: update(step, f"loss {loss:.3f}"),
        )


def measure_path(config: TransientRidge, folder: RunFolder, num_tasks: int) -> xarray.Dataset:
    """Loss on training and fresh tasks and distance to both predictors, dims (step,); outputs on a fixed batch."""
    model, tasks = regression_model(config), task_set(config, num_tasks)
    trained_key, fresh_key = jax.random.split(_key(config, EVALUATION))
    batches = {
        "trained": _sequences(config, trained_key, config.num_evaluation_sequences, tasks),
        "fresh": _sequences(config, fresh_key, config.num_evaluation_sequences, None),
    }
    known = {where: _known_predictions(batch, tasks, config.noise_variance) for where, batch in batches.items()}

    def compute() -> dict[str, Any]:
        store, like = _store(folder, num_tasks), initial_params(config)
        rows = []
        for step in saved_steps(config):
            params = jax.tree.map(jnp.asarray, store.params(step, like))
            row = _compare(model, params, batches, known)
            rows.append({name: np.asarray(value) for name, value in row.items()})
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    stored = folder.piece(f"path/tasks_{num_tasks}", compute)
    variables: dict[str, Any] = {
        name: (("step", "output") if name == "outputs" else ("step",), value) for name, value in stored.items()
    }
    for name, predicted in known["fresh"].items():
        variables[f"{name}_outputs"] = (("output",), np.ravel(predicted[:NUM_PATH_SEQUENCES]))
    for where, batch in batches.items():
        for name, predicted in known[where].items():
            variables[f"{name}_loss_{where}"] = ((), _loss(predicted, batch))
    return xarray.Dataset(variables, coords={"step": saved_steps(config)})


@partial(jax.jit, static_argnames="noise_variance")
def _known_predictions(batch: Batch, tasks: Array, noise_variance: float) -> dict[str, Array]:
    """What both predictors say; the same at every checkpoint."""
    return {
        "ridge": ridge_predictions(batch, noise_variance),
        "dmmse": dmmse_predictions(batch, tasks, noise_variance),
    }


def _loss(predicted: Array, batch: Batch) -> float:
    return float(jnp.mean((predicted - batch["y"]) ** 2))


@partial(jax.jit, static_argnames="model")
def _compare(
    model: RegressionTransformer, params: Params, batches: dict[str, Batch], known: dict[str, dict[str, Array]]
) -> dict[str, Array]:
    row = {}
    for where, batch in batches.items():
        predicted = predictions(model, params, batch)
        row[f"loss_{where}"] = jnp.mean((predicted - batch["y"]) ** 2)
        for name, other in known[where].items():
            row[f"to_{name}_{where}"] = jnp.mean((predicted - other) ** 2)
        if where == "fresh":
            row["outputs"] = jnp.ravel(predicted[:NUM_PATH_SEQUENCES])
    return row


def final_llc(config: TransientRidge, folder: RunFolder, num_tasks: int) -> dict[str, np.ndarray]:
    """LLC at the end of training, on fixed sequences of the training tasks."""
    sampling = config.sampling
    data = _sequences(config, _key(config, POSTERIOR_DATA), sampling.num_examples, task_set(config, num_tasks))
    center = jax.tree.map(
        jnp.asarray, _store(folder, num_tasks).params(config.training.num_steps, initial_params(config))
    )  # fmt: skip
    posterior = LocalPosterior(
        squared_error_loss(regression_model(config)), data, center, sampling.nbeta, sampling.localization
    )  # fmt: skip
    draw = partial(
        sample, _key(config, CHAINS), posterior, sgld(sampling.batch_size), step_size=sampling.step_size,
        num_chains=sampling.num_chains, num_draws=sampling.num_draws, num_burnin=sampling.num_burnin,
    )  # fmt: skip
    return llc_piece(folder, f"llc/tasks_{num_tasks}", draw)
