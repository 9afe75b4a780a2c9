"""The computing half of `refined-llc`: train or borrow a model, then sample heads and the whole on every source."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from configs.refined_llc import RefinedLLC
from experiments.llc_pieces import llc_piece
from experiments.lm_stages.measure import (
    language_model,
    measure_knowledge,
    measure_memory,
    sampled_steps,
    stored_params,
    train_model,
)
from experiments.lm_stages.memory import announce
from experiments.lm_stages.refined import CHAINS_KEY, measure_heads
from experiments.lm_stages.tasks import Task, open_task
from experiments.registry import UserError
from experiments.run_folder import RunFolder
from slt_jax.models.language_model import next_token_loss
from slt_jax.posterior import LocalPosterior
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample
from slt_jax.sampling.sgld import sgld
from slt_jax.typing import Params

__all__ = ["run"]


def run(config: RefinedLLC, folder: RunFolder) -> list[str]:
    """Compute whatever is not in `folder` yet; returns one sentence for every source with a diverged chain."""
    # The heads' settings, so that a training made here keeps the checkpoints that are sampled here.
    stages, refined = replace(config.stages, refined=config.refined), config.refined
    trained = _trained_folder(config, folder)
    task = open_task(stages, trained)
    announce(measure_memory(stages, folder, task))
    train_model(stages, trained, task)
    model = language_model(stages, task)
    params = stored_params(stages, trained, task, sampled_steps(stages, refined))
    parts, sentences = [measure_knowledge(stages, trained, task)], []
    for source in _sources(config, task):
        data = task.posterior_data(source, refined.num_examples)
        heads = measure_heads(folder, model, data, refined, params, name=f"heads/{source}")
        whole = _measure_whole(config, folder, task, source, params)
        parts.append(heads.merge(whole).expand_dims(source=[source]))
        lost = int(heads.head_diverged.sum()) + int(whole.whole_diverged.sum())
        sentences += [f"{source}: {lost} chains"] if lost else []
    measured = xarray.concat(parts[1:], dim="source")
    folder.write_results(xarray.merge([parts[0], measured], join="outer"))
    return sentences


def _trained_folder(config: RefinedLLC, folder: RunFolder) -> RunFolder:
    """The folder whose checkpoints are used: the given one, if it holds the same training."""
    if not config.trained_in:
        return folder
    trained = RunFolder.existing(Path(config.trained_in))
    wanted = folder.config["stages"]
    for field in ("seed", "data", "model", "training"):
        if trained.config.get(field) != wanted[field]:
            raise UserError(
                f"{config.trained_in} was trained with another '{field}': {trained.config.get(field)} instead of "
                f"{wanted[field]}"
            )
    return trained


def _sources(config: RefinedLLC, task: Task) -> list[str]:
    unknown = [source for source in config.sources if source not in task.sources]
    if unknown:
        raise UserError(f"there is no source '{unknown[0]}'; there are: {', '.join(task.sources)}")
    return list(dict.fromkeys((task.sources[0], *(config.sources or task.sources))))


def _measure_whole(
    config: RefinedLLC, folder: RunFolder, task: Task, source: str, params: dict[int, Params]
) -> xarray.Dataset:
    """LLC of all weights on the data of `source`, at every step of `params`."""
    refined = config.refined
    loss_fn = next_token_loss(language_model(config.stages, task))
    data = task.posterior_data(source, refined.num_examples)
    rows: list[dict[str, Any]] = []
    with progress_bar(f"LLC, {source}", len(params)) as update:
        for step, center in params.items():
            posterior = LocalPosterior(
                loss_fn, data, jax.tree.map(jnp.asarray, center), refined.nbeta, refined.localization
            )
            draw = partial(
                sample, jax.random.key(CHAINS_KEY), posterior, sgld(refined.batch_size), step_size=refined.step_size,
                num_chains=refined.num_chains, num_draws=refined.num_draws, num_burnin=refined.num_burnin,
                layout=None if refined.layout == "auto" else refined.layout,
            )  # fmt: skip
            rows.append(llc_piece(folder, f"whole/{source}/step_{step:07d}", draw))
            update(len(rows), f"step {step}: LLC {float(rows[-1]['mean']):.1f}")
    names = {"mean": "whole_llc", "std_error": "whole_llc_std_error", "rhat": "whole_llc_rhat"}
    variables: dict[str, Any] = {
        name: ("checkpoint", np.stack([row[key] for row in rows])) for key, name in names.items()
    }
    variables["whole_diverged"] = (("checkpoint", "refined_chain"), np.stack([row["diverged"] for row in rows]))
    return xarray.Dataset(variables, coords={"checkpoint": list(params)})
