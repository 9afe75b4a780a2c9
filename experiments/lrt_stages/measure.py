"""The computing half of `lrt-stages`: training, behaviour at every checkpoint, LLC at chosen ones; each part once."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
import xarray

from configs.lrt_stages import LRTStages, Sampling, Training
from experiments.llc_pieces import llc_dataset, llc_piece
from experiments.lrt_stages.behaviour import measure_behaviour
from experiments.lrt_stages.geometry import measure_geometry
from experiments.lrt_stages.refined import measure_refined
from experiments.registry import UserError
from experiments.run_folder import RunFolder
from slt_jax.data.in_context_regression import sample_sequences
from slt_jax.models.regression_transformer import RegressionTransformer, squared_error_loss, tokens
from slt_jax.posterior import LocalPosterior
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import Samples, sample
from slt_jax.sampling.metrics import CurvatureMetric
from slt_jax.sampling.sampler import Sampler
from slt_jax.sampling.sgld import sgld
from slt_jax.sampling.underdamped import underdamped
from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.training.loop import checkpoint_steps, train, triangle_schedule

__all__ = ["check", "run", "stored_params"]

MODEL = RegressionTransformer()
# One stream per use, folded into the seed's key: nothing drawn for one purpose moves when another changes.
INIT, TRAINING, EVALUATION, POSTERIOR_DATA, CHAINS = range(5)
METRIC = 2**31 - 1  # no chain has this number
SHARED_SEED = 2**20  # evaluation and posterior data are the same sequences for every training seed


def check(config: LRTStages) -> None:
    """Refuse a configuration without a seed, or whose LLC would be estimated only after training has ended."""
    if not config.seeds:
        raise UserError("seeds is empty; name at least one training seed")
    sampled_steps(config)


def run(config: LRTStages, folder: RunFolder) -> list[str]:
    """Compute whatever is not in `folder` yet; returns one sentence for every estimate with a diverged chain."""
    for seed in config.seeds:
        train_seed(config, folder, seed)
    estimates = {seed: measure_llc(config, folder, seed) for seed in config.seeds}
    parts: list[xarray.Dataset] = [llc_dataset(estimates)]
    parts += [
        xarray.concat([measure(config, folder, seed) for seed in config.seeds], _seeds(config.seeds))
        for measure in (_behaviour, _geometry)
    ]
    refined_seeds = [seed for seed in config.seeds if seed in (config.refined.seeds or config.seeds)]
    if refined_steps(config) and refined_seeds:
        refined = [_refined(config, folder, seed) for seed in refined_seeds]
        parts.append(xarray.concat(refined, _seeds(refined_seeds)).reindex(seed=list(config.seeds)))
    results = xarray.merge(parts)
    folder.write_results(results)
    return _diverged(estimates, results)


def _seeds(seeds: Any) -> xarray.DataArray:
    return xarray.DataArray(list(seeds), dims="seed", name="seed")


def _diverged(estimates: dict[int, dict[int, dict[str, np.ndarray]]], results: xarray.Dataset) -> list[str]:
    sentences = [
        f"seed {seed}, step {step}: {piece['status']}"
        for seed, pieces in estimates.items()
        for step, piece in pieces.items()
        if piece["diverged"].any()
    ]
    lost = int((results.refined_llc_diverged == 1).sum()) if "refined_llc_diverged" in results else 0
    return sentences + ([f"{lost} refined LLCs"] if lost else [])


def _behaviour(config: LRTStages, folder: RunFolder, seed: int) -> xarray.Dataset:
    steps = sorted({*saved_steps(config.training), *sampled_steps(config)})
    key = jax.random.fold_in(jax.random.key(SHARED_SEED), EVALUATION)
    params = stored_params(folder, seed, steps)
    return measure_behaviour(folder, seed, MODEL, params, key, config.num_evaluation_sequences)


def _geometry(config: LRTStages, folder: RunFolder, seed: int) -> xarray.Dataset:
    params = stored_params(folder, seed, sampled_steps(config))
    data = posterior_data(config.sampling)
    return measure_geometry(config, folder, seed, squared_error_loss(MODEL), data, params)


def _refined(config: LRTStages, folder: RunFolder, seed: int) -> xarray.Dataset:
    params = stored_params(folder, seed, refined_steps(config))
    return measure_refined(config, folder, seed, MODEL, posterior_data(config.sampling), params)


def saved_steps(training: Training) -> list[int]:
    """The steps whose parameters are kept; of those given one by one, the ones up to the end of training."""
    if training.checkpoint_steps:
        return sorted({*_up_to(training.num_steps, training.checkpoint_steps), training.num_steps})
    spread = checkpoint_steps(training.num_steps, training.num_log_checkpoints, training.num_linear_checkpoints)
    return sorted({0, *spread})


def sampled_steps(config: LRTStages) -> list[int]:
    """The steps whose LLC is estimated, step 0 left out unless named: an untrained model is at no minimum."""
    given, num_steps = config.sampling.checkpoint_steps, config.training.num_steps
    if given and min(given) > num_steps:
        raise UserError(
            f"sampling.checkpoint_steps begin at {min(given):,}, after the last training step ({num_steps:,}); name earlier ones"
        )
    return _up_to(num_steps, given) or [step for step in saved_steps(config.training) if step > 0]


def refined_steps(config: LRTStages) -> list[int]:
    """The steps whose refined LLCs are estimated."""
    return _up_to(config.training.num_steps, config.refined.checkpoint_steps)


def _up_to(num_steps: int, steps: tuple[int, ...]) -> list[int]:
    return sorted(step for step in steps if step <= num_steps)


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


def train_seed(config: LRTStages, folder: RunFolder, seed: int) -> None:
    """Train one seed to the end, from wherever its store stands."""
    store, training = _store(folder, seed), config.training
    wanted = sorted({*saved_steps(training), *sampled_steps(config), *refined_steps(config)})
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
            save_at=wanted,
            on_progress=lambda step, loss: update(step, f"loss {loss:.3f}"),
        )


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
            draw = partial(draw_samples, key, posterior, sampling)
            pieces[step] = llc_piece(folder, f"llc/seed_{seed}/step_{step:07d}", draw)
            update(done + 1, f"step {step}: LLC {float(pieces[step]['mean']):.1f}")
    return pieces


def sampler_of(sampling: Sampling) -> Sampler:
    """The sampler that `sampling` names. Its own step is the paper's ε for SGLD; ε where stiff directions have curvature 1 for
    metric SGLD; h, to be compared with √ε, for underdamped dynamics (docs/results/lrt_stages, mixing)."""
    rule = CurvatureMetric(sampling.metric_rank, sampling.metric_damping, num_examples=sampling.metric_examples)
    kernel = sgld(sampling.batch_size)
    samplers = {
        "sgld": Sampler(kernel, step_size=3e-4),
        "metric": Sampler(kernel, rule, step_size=0.02),
        "underdamped": Sampler(underdamped(sampling.batch_size, sampling.persistence), rule, step_size=0.07),
    }
    sampler = samplers[sampling.sampler]
    return sampler if sampling.step_size is None else replace(sampler, step_size=sampling.step_size)


def draw_samples(key: jax.Array, posterior: LocalPosterior, sampling: Sampling) -> Samples:
    """Samples by the sampler that `sampling` names."""
    tuned = sampler_of(sampling).tune(jax.random.fold_in(key, METRIC), posterior)
    return sample(
        key, posterior, tuned, num_chains=sampling.num_chains, num_draws=sampling.num_draws,
        num_burnin=sampling.num_burnin,
    )  # fmt: skip
