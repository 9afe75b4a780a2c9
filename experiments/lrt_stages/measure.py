"""The computing half of `lrt-stages`: training, behaviour at every checkpoint, LLC at chosen ones; each part once."""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax
import xarray

from configs.lrt_stages import LRTStages, Sampling, Training
from experiments.llc_pieces import llc_dataset, llc_piece
from experiments.progress import progress_bar
from experiments.run_folder import RunFolder
from slt_jax.analysis.regression_metrics import behaviour, icl_score, norm_collapse, weight_norm
from slt_jax.data.in_context_regression import sample_sequences
from slt_jax.models.regression_transformer import RegressionTransformer, squared_error_loss, tokens
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.driver import sample
from slt_jax.sampling.kernels import sgld
from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.training.loop import checkpoint_steps, train, triangle_schedule

__all__ = ["run", "stored_params"]

MODEL = RegressionTransformer()
# One stream per use, folded into the seed's key: nothing drawn for one purpose moves when another changes.
INIT, TRAINING, EVALUATION, POSTERIOR_DATA, CHAINS = range(5)
SHARED_SEED = 2**20  # evaluation and posterior data are the same sequences for every training seed


def run(config: LRTStages, folder: RunFolder) -> list[str]:
    """Compute whatever is not in `folder` yet; returns one sentence for every estimate with a diverged chain."""
    for seed in config.seeds:
        train_seed(config.training, folder, seed)
    behaviours = {seed: measure_behaviour(config, folder, seed) for seed in config.seeds}
    estimates = {seed: measure_llc(config, folder, seed) for seed in config.seeds}
    folder.write_results(_dataset(config, behaviours, estimates))
    return [
        f"seed {seed}, step {step}: {piece['status']}"
        for seed, pieces in estimates.items()
        for step, piece in pieces.items()
        if piece["diverged"].any()
    ]


def saved_steps(training: Training) -> list[int]:
    """The steps whose parameters are kept."""
    if training.checkpoint_steps:
        return sorted({*training.checkpoint_steps, training.num_steps})
    spread = checkpoint_steps(training.num_steps, training.num_log_checkpoints, training.num_linear_checkpoints)
    return sorted({0, *spread})


def sampled_steps(config: LRTStages) -> list[int]:
    """The steps whose LLC is estimated, step 0 left out unless named: an untrained model is at no minimum."""
    return sorted(config.sampling.checkpoint_steps or [step for step in saved_steps(config.training) if step > 0])


def _store(folder: RunFolder, seed: int) -> CheckpointStore:
    return CheckpointStore(folder.path / "checkpoints" / f"seed_{seed}")


def initial_params(seed: int) -> Any:
    """The model's parameters before training."""
    key = jax.random.fold_in(jax.random.key(seed), INIT)
    example = jax.tree.map(lambda leaf: leaf[:1], sample_sequences(key, 1))
    return MODEL.init(key, tokens(example))["params"]


def stored_params(folder: RunFolder, seed: int, steps: list[int]) -> dict[int, Any]:
    """Trained parameters at `steps`."""
    store, like = _store(folder, seed), initial_params(seed)
    return {step: store.params(step, like) for step in steps}


def _fresh_batch(batch_size: int, key: jax.Array, step: jax.Array, data: None) -> Any:
    del step, data  # the key is folded with the step already
    return sample_sequences(key, batch_size)


def train_seed(training: Training, folder: RunFolder, seed: int) -> None:
    """Train one seed to the end, from wherever its store stands."""
    store = _store(folder, seed)
    wanted = sorted({*saved_steps(training), *_sampled_extra(folder)})
    if store.steps() and store.steps()[-1] >= training.num_steps:
        return
    schedule = triangle_schedule(training.schedule_steps, training.peak_learning_rate)
    with progress_bar(f"training seed {seed}", training.num_steps) as update:
        train(
            jax.random.fold_in(jax.random.key(seed), TRAINING),
            squared_error_loss(MODEL),
            initial_params(seed),
            partial(_fresh_batch, training.batch_size),
            optax.adam(schedule),
            num_steps=training.num_steps,
            store=store,
            save_at=[step for step in wanted if step <= training.num_steps],
            on_progress=lambda step, loss: update(step, f"loss {loss:.3f}"),
        )


def _sampled_extra(folder: RunFolder) -> tuple[int, ...]:
    return tuple(folder.config["sampling"]["checkpoint_steps"])


def measure_behaviour(config: LRTStages, folder: RunFolder, seed: int) -> dict[int, dict[str, np.ndarray]]:
    """Behaviour and structure at every saved step."""
    steps = sorted({*saved_steps(config.training), *sampled_steps(config)})
    key = jax.random.fold_in(jax.random.key(SHARED_SEED), EVALUATION)
    batch = sample_sequences(key, config.num_evaluation_sequences)

    def compute() -> dict[str, Any]:
        rows = []
        for params in stored_params(folder, seed, steps).values():
            row = {**behaviour(MODEL, params, batch), "weight_norm": weight_norm(params)}
            row |= {f"collapse/{name}": share for name, share in norm_collapse(params).items()}
            row["icl_score"] = icl_score(row["loss_token"])
            rows.append(jax.tree.map(np.asarray, row))
        return {"step": steps, **jax.tree.map(lambda *values: np.stack(values), *rows)}

    stored = folder.piece(f"behaviour/seed_{seed}", compute)
    return {
        int(step): {name: values[i] for name, values in stored.items() if name != "step"}
        for i, step in enumerate(stored["step"])
    }


def posterior_data(sampling: Sampling) -> Any:
    """The n fixed sequences of the empirical loss, the same for every seed and checkpoint."""
    key = jax.random.fold_in(jax.random.key(SHARED_SEED), POSTERIOR_DATA)
    return sample_sequences(key, sampling.num_examples)


def measure_llc(config: LRTStages, folder: RunFolder, seed: int) -> dict[int, dict[str, np.ndarray]]:
    """LLC at the sampled steps. Data and noise are the same at every checkpoint, so that differences are sharper."""
    sampling, steps = config.sampling, sampled_steps(config)
    data = posterior_data(sampling)
    key = jax.random.fold_in(jax.random.key(SHARED_SEED), CHAINS)
    params = stored_params(folder, seed, steps)
    pieces = {}
    with progress_bar(f"LLC seed {seed}", len(steps)) as update:
        for done, step in enumerate(steps):
            center = jax.tree.map(jax.numpy.asarray, params[step])
            posterior = LocalPosterior(squared_error_loss(MODEL), data, center, sampling.nbeta, sampling.localization)
            draw = partial(
                sample, key, posterior, sgld(sampling.batch_size), step_size=sampling.step_size,
                num_chains=sampling.num_chains, num_draws=sampling.num_draws, num_burnin=sampling.num_burnin,
            )  # fmt: skip
            pieces[step] = llc_piece(folder, f"llc/seed_{seed}/step_{step:07d}", draw)
            update(done + 1, f"step {step}: LLC {float(pieces[step]['mean']):.1f}")
    return pieces


def _dataset(
    config: LRTStages,
    behaviours: dict[int, dict[int, dict[str, np.ndarray]]],
    estimates: dict[int, dict[int, dict[str, np.ndarray]]],
) -> xarray.Dataset:
    """Behaviour over (seed, step) and LLC over (seed, checkpoint, chain, draw)."""
    first = behaviours[config.seeds[0]]
    variables = {}
    for name, example in next(iter(first.values())).items():
        values = np.stack([[row[name] for row in behaviours[seed].values()] for seed in config.seeds])
        variables[name.replace("/", ".")] = (("seed", "step", *(["example"] if example.ndim else [])), values)
    behaviour_set = xarray.Dataset(variables, coords={"seed": list(config.seeds), "step": list(first)})
    return behaviour_set.merge(llc_dataset(estimates))
