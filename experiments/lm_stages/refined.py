"""Refined LLCs of attention heads over training (arXiv 2410.02984): one program per layer, stored per checkpoint."""

from dataclasses import asdict
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from configs.lm_stages import Refined
from experiments.run_folder import RunFolder
from slt_jax.estimators.llc import llc
from slt_jax.models.language_model import LanguageModel, head_axes, next_token_loss
from slt_jax.posterior import LocalPosterior, by_slice
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample_restrictions
from slt_jax.sampling.sgld import sgld
from slt_jax.typing import Batch, Params

__all__ = ["measure_heads"]

CHAINS_KEY = 2**20 + 1
STORED = ("mean", "std_error", "rhat", "ess", "drift", "drift_std_error", "diverged", "per_chain")


def measure_heads(
    folder: RunFolder,
    model: LanguageModel,
    data: Batch,
    refined: Refined,
    params: dict[int, Params],
    *,
    name: str,
    prefix: str = "head",
) -> xarray.Dataset:
    """Refined LLC of every head on `data` at every step of `params`.

    Args:
        folder: where finished parts are kept, under `name`.
        model, data: whose loss, on which sequences; other data than the training data refine it by data as well.
        refined: posterior and sampler.
        params: step -> w*.
        name: name of the part in the run folder.
        prefix: of the variables' names.

    Returns:
        `{prefix}_llc`, `{prefix}_llc_std_error`, ... with dims (checkpoint, layer, head[, chain]). Chains share their noise
        over checkpoints, so that differences are sharper.
    """
    rows: list[dict[str, np.ndarray]] = []
    with progress_bar(f"refined LLC, {name}", len(params) * model.num_layers) as update:
        for step, center in params.items():
            layers = []
            for layer in range(model.num_layers):
                layers.append(
                    folder.piece(
                        f"refined/{name}/step_{step:07d}_layer_{layer}",
                        partial(_layer, model, data, refined, center, layer),
                    )
                )
                update(len(rows) * model.num_layers + layer + 1, f"step {step}")
            rows.append({key: np.stack([part[key] for part in layers]) for key in STORED})
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(STORED, ("checkpoint", "layer", "head"))
    dims |= dict.fromkeys(("diverged", "per_chain"), ("checkpoint", "layer", "head", "refined_chain"))
    variables = {_variable(prefix, key): (dims[key], np.stack([row[key] for row in rows])) for key in STORED}
    return xarray.Dataset(variables, coords={"checkpoint": list(params)})


def _variable(prefix: str, key: str) -> str:
    return {"mean": f"{prefix}_llc", "diverged": f"{prefix}_diverged"}.get(key, f"{prefix}_llc_{key}")


def _layer(model: LanguageModel, data: Batch, refined: Refined, center: Params, layer: int) -> dict[str, Any]:
    """Estimates of the heads of one layer, sampled side by side in one program."""
    posterior = LocalPosterior(
        next_token_loss(model), data, jax.tree.map(jnp.asarray, center), refined.nbeta, refined.localization
    )
    samples = sample_restrictions(
        jax.random.fold_in(jax.random.key(CHAINS_KEY), layer),
        posterior,
        by_slice(head_axes(layer), jnp.arange(model.num_heads)),
        sgld(refined.batch_size),
        step_size=refined.step_size,
        num_chains=refined.num_chains,
        num_draws=refined.num_draws,
        num_burnin=refined.num_burnin,
        layout=None if refined.layout == "auto" else refined.layout,
    )
    estimates = [asdict(llc(one)) for one in samples]
    return {key: np.stack([estimate[key] for estimate in estimates]) for key in STORED}
