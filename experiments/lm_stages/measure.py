"""The computing half of `lm-stages`: training, what the model knows at every checkpoint, LLCs; each part once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray

from configs.lm_stages import LMStages, Refined, Sampling, Training
from experiments.llc_pieces import llc_dataset, llc_piece
from experiments.lm_stages.memory import Memory, announce, estimate_memory
from experiments.lm_stages.refined import measure_heads
from experiments.lm_stages.tasks import Task, open_task
from experiments.run_folder import RunFolder
from slt_jax.analysis import language_metrics as metrics
from slt_jax.models.language_model import LanguageModel, attention_patterns, init, next_token_loss
from slt_jax.posterior import LocalPosterior
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample
from slt_jax.sampling.sgld import sgld
from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.training.loop import train

__all__ = [
    "language_model",
    "measure_knowledge",
    "measure_memory",
    "run",
    "sampled_steps",
    "saved_steps",
    "stored_params",
    "train_model",
]

# One stream per use, folded into the seed's key: nothing drawn for one purpose moves when another changes.
INIT, TRAINING, PROBES, CHAINS = range(4)


def run(config: LMStages, folder: RunFolder) -> list[str]:
    """Compute whatever is not in `folder` yet; returns one sentence for every estimate with a diverged chain."""
    task = open_task(config, folder)
    model = language_model(config, task)
    announce(measure_memory(config, folder, task))
    train_model(config, folder, task)
    knowledge = measure_knowledge(config, folder, task)
    estimates = measure_llc(config, folder, task)
    heads = measure_heads(
        folder, model, task.posterior_data(task.sources[0], config.refined.num_examples), config.refined,
        stored_params(config, folder, task, sampled_steps(config, config.refined)), name="heads",
    )  # fmt: skip
    llcs = llc_dataset({config.seed: estimates}).squeeze("seed", drop=True)
    # As numbers: heads may be sampled at other checkpoints, and a missing truth value has no place on disk.
    llcs, heads = llcs.assign(diverged=llcs.diverged * 1.0), heads.assign(head_diverged=heads.head_diverged * 1.0)
    results = xarray.merge([knowledge, llcs, heads], join="outer")
    facts = {f"baseline.{name}": loss for name, loss in task.baselines.items()} | {"source": task.sources[0]}
    folder.write_results(results.assign_attrs(facts | {"memory": str(measure_memory(config, folder, task))}))
    sentences = [f"step {step}: {piece['status']}" for step, piece in estimates.items() if piece["diverged"].any()]
    lost = int(heads.head_diverged.sum())
    return sentences + ([f"{lost} chains of refined LLCs"] if lost else [])


def language_model(config: LMStages, task: Task) -> LanguageModel:
    """The model of `config` with the vocabulary and context of the task."""
    shape = config.model
    return LanguageModel(
        task.vocab_size, config.data.context, shape.embed_dim, shape.num_heads, shape.num_layers, shape.mlp_dim,
        shape.positions,
    )  # fmt: skip


def saved_steps(training: Training) -> list[int]:
    """The steps whose parameters are kept."""
    return sorted({*range(0, training.num_steps, training.checkpoint_every), training.num_steps})


def sampled_steps(config: LMStages, sampling: Sampling | Refined) -> list[int]:
    """The steps at which `sampling` happens, step 0 left out unless named: an untrained model is at no minimum."""
    named = [step for step in sampling.checkpoint_steps if step <= config.training.num_steps]
    return sorted(named or [step for step in saved_steps(config.training) if step > 0])


def kept_steps(config: LMStages) -> list[int]:
    """The steps whose parameters are kept and measured: saved or sampled."""
    sampled = {*sampled_steps(config, config.sampling), *sampled_steps(config, config.refined)}
    return sorted({*saved_steps(config.training), *sampled})


def _seed_key(config: LMStages, use: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(config.seed), use)


def _initial_params(config: LMStages, task: Task) -> Any:
    return init(_seed_key(config, INIT), language_model(config, task))


def stored_params(config: LMStages, folder: RunFolder, task: Task, steps: list[int]) -> dict[int, Any]:
    """Trained parameters at `steps`."""
    store, like = CheckpointStore(folder.path / "checkpoints"), _initial_params(config, task)
    return {step: store.params(step, like) for step in steps}


def _optimizer(training: Training) -> optax.GradientTransformation:
    return optax.adamw(training.learning_rate, weight_decay=training.weight_decay)


def measure_memory(config: LMStages, folder: RunFolder, task: Task) -> Memory:
    """What the run needs of a device, from its compiled programs."""

    def compute() -> dict[str, Any]:
        model, optimizer = language_model(config, task), _optimizer(config.training)
        return estimate_memory(config, model, task.batches, task.data, optimizer)._asdict()

    return Memory(**{name: int(size) for name, size in folder.piece("memory", compute).items()})


def train_model(config: LMStages, folder: RunFolder, task: Task) -> None:
    """Train to the end, from wherever the store stands."""
    training, model = config.training, language_model(config, task)
    store = CheckpointStore(folder.path / "checkpoints")
    if store.steps() and store.steps()[-1] >= training.num_steps:
        return
    with progress_bar("training", training.num_steps) as update:
        train(
            _seed_key(config, TRAINING),
            next_token_loss(model),
            _initial_params(config, task),
            task.batches,
            _optimizer(training),
            num_steps=training.num_steps,
            store=store,
            save_at=kept_steps(config),
            data=task.data,
            on_progress=lambda step, loss: update(step, f"loss {loss:.3f}"),
        )


def measure_knowledge(config: LMStages, folder: RunFolder, task: Task) -> xarray.Dataset:
    """Losses, scores and heads at every kept step, and what the most telling heads attend to at the end."""
    model, steps = language_model(config, task), kept_steps(config)

    def compute() -> dict[str, Any]:
        rows = []
        with progress_bar("scores", len(steps)) as update:
            for step, stored in stored_params(config, folder, task, steps).items():
                params = jax.tree.map(jnp.asarray, stored)
                rows.append(jax.tree.map(np.asarray, _knowledge(config, model, params, task)))
                update(len(rows), f"step {step}")
        example = _example(np.asarray(task.evaluation))
        patterns = attention_patterns(model, params, jnp.asarray(example[None]))[:, 0]
        stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return {**stacked, "step": steps, "attention": patterns, "example": task.decode(example)}

    stored = folder.piece("knowledge", compute)
    dims = {
        "loss_position": ("step", "position"), "previous_token": ("step", "layer", "head"),
        "prefix_matching": ("step", "layer", "head"), "k_composition": ("step", "head", "later_head"),
        "attention": ("layer", "head", "query", "key"),
    }  # fmt: skip
    kept = stored.pop("step").tolist()  # of the run that trained, which another experiment may borrow
    labels = stored.pop("example").tolist()  # an attribute: zarr has no settled form for numpy's strings
    variables = {name: (dims.get(name, ("step",)), values) for name, values in stored.items()}
    return xarray.Dataset(variables, coords={"step": kept}, attrs={"example": labels})


def _knowledge(config: LMStages, model: LanguageModel, params: Any, task: Task) -> dict[str, Any]:
    key, count = _seed_key(config, PROBES), config.num_probe_sequences
    losses = metrics.losses_by_position(model, params, task.evaluation)
    row = {
        "loss": losses.mean(),
        "loss_position": losses,
        "icl_score": metrics.icl_score(losses),
        "bigram_score": metrics.bigram_score(key, model, params, task.evaluation, task.bigram),
        "positional_ablation": metrics.positional_ablation(model, params, task.evaluation),
        "previous_token": metrics.previous_token_scores(key, model, params, num_sequences=count),
        "prefix_matching": metrics.prefix_matching_scores(key, model, params, num_sequences=count),
    }
    if model.num_layers > 1:
        row["k_composition"] = metrics.k_composition(params)
    for n, grams in task.ngrams.items():
        row[f"ngram_{n}"] = metrics.ngram_score(model, params, task.evaluation, grams, task.bos)
    return row


def _example(sequences: np.ndarray, length: int = 24) -> np.ndarray:
    """The passage with the most bigrams that occur twice: there an induction head has something to do."""
    starts = sequences[:, :length].astype(np.int64)
    bigrams = starts[:, :-1] * (sequences.max() + 1) + starts[:, 1:]
    return starts[np.argmin([len(np.unique(row)) for row in bigrams])]


def measure_llc(config: LMStages, folder: RunFolder, task: Task) -> dict[int, dict[str, np.ndarray]]:
    """LLC at the sampled steps. Data and noise are the same at every checkpoint, so that differences are sharper."""
    sampling, steps = config.sampling, sampled_steps(config, config.sampling)
    loss_fn = next_token_loss(language_model(config, task))
    data = task.posterior_data(task.sources[0], sampling.num_examples)
    params = stored_params(config, folder, task, steps)
    pieces = {}
    with progress_bar("LLC", len(steps)) as update:
        for done, step in enumerate(steps):
            center = jax.tree.map(jnp.asarray, params[step])
            posterior = LocalPosterior(loss_fn, data, center, sampling.nbeta, sampling.localization)
            draw = partial(
                sample, _seed_key(config, CHAINS), posterior, sgld(sampling.batch_size), step_size=sampling.step_size,
                num_chains=sampling.num_chains, num_draws=sampling.num_draws, num_burnin=sampling.num_burnin,
                layout=None if sampling.layout == "auto" else sampling.layout,
            )  # fmt: skip
            pieces[step] = llc_piece(folder, f"llc/step_{step:07d}", draw)
            update(done + 1, f"step {step}: LLC {float(pieces[step]['mean']):.1f}")
    return pieces
