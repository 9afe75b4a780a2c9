"""Refined LLCs of an `lrt-stages` run: every head, MLP, LayerNorm and the embeddings; the heads of a layer in one program."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from configs.lrt_stages import LRTStages
from experiments.run_folder import RunFolder
from slt_jax.estimators.llc import llc
from slt_jax.models.regression_transformer import RegressionTransformer, squared_error_loss
from slt_jax.posterior import LocalPosterior, by_path, by_slice, restrict
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample, sample_restrictions
from slt_jax.sampling.sgld import sgld
from slt_jax.typing import Batch, Params

__all__ = ["components", "measure_refined"]

KEY = 2**20 + 11
STORED = ("mean", "std_error", "rhat", "drift", "diverged")


def components(model: RegressionTransformer) -> dict[str, tuple[str, ...]]:
    """Parts of the model, name -> patterns of the paths of their parameters; heads are apart, in `head_names`."""
    parts: dict[str, tuple[str, ...]] = {}
    for layer in range(model.num_layers):
        parts[f"mlp {layer}"] = (f"block_{layer}/mlp/*",)
        parts[f"attention norm {layer}"] = (f"block_{layer}/attention_norm/*",)
        parts[f"mlp norm {layer}"] = (f"block_{layer}/mlp_norm/*",)
    parts["final norm"] = ("final_norm/*",)
    parts["token embedding"] = ("token_embedding",)
    parts["position embedding"] = ("position_embedding",)
    parts["unembedding"] = ("unembedding/*",)
    return parts


def measure_refined(
    config: LRTStages,
    folder: RunFolder,
    seed: int,
    model: RegressionTransformer,
    data: Batch,
    params: dict[int, Params],
) -> xarray.Dataset:
    """`refined_llc`, `refined_llc_std_error`, ... with dims (refined_checkpoint, component)."""
    rows: list[dict[str, np.ndarray]] = []
    layers = [f"heads {layer}" for layer in range(model.num_layers)]
    parts = components(model)
    with progress_bar(f"refined LLC seed {seed}", len(params) * (len(layers) + len(parts))) as update:
        for step, center in params.items():
            pieces = {}
            for name in (*layers, *parts):
                pieces[name] = folder.piece(
                    f"refined/seed_{seed}/step_{step:07d}/{name.replace(' ', '_')}",
                    partial(_estimate, config, model, data, center, name),
                )
                update(len(rows) * (len(layers) + len(parts)) + len(pieces), f"step {step}, {name}")
            rows.append({key: np.concatenate([piece[key] for piece in pieces.values()]) for key in STORED})
    names = [f"head {layer}.{head}" for layer in range(model.num_layers) for head in range(model.num_heads)] + list(
        parts
    )
    variables = {
        "refined_llc" if key == "mean" else f"refined_llc_{key}": (
            ("refined_checkpoint", "component"), np.stack([row[key] for row in rows])
        )
        for key in STORED
    }  # fmt: skip
    return xarray.Dataset(variables, coords={"refined_checkpoint": list(params), "component": names})


def _estimate(
    config: LRTStages, model: RegressionTransformer, data: Batch, center: Params, name: str
) -> dict[str, Any]:
    """Estimates of the heads of one layer, or of one part, with a leading axis of components."""
    refined, sampling = config.refined, config.sampling
    posterior = LocalPosterior(
        squared_error_loss(model), data, jax.tree.map(jnp.asarray, center), sampling.nbeta, sampling.localization
    )  # fmt: skip
    options: dict[str, Any] = {
        "step_size": refined.step_size, "num_chains": refined.num_chains, "num_draws": refined.num_draws,
        "num_burnin": refined.num_burnin,
    }  # fmt: skip
    key, kernel = jax.random.key(KEY), sgld(refined.batch_size)
    if name.startswith("heads "):
        block = f"block_{name.removeprefix('heads ')}/attention"
        heads = by_slice({f"{block}/qkv": 2, f"{block}/out": 0}, jnp.arange(model.num_heads))
        samples = sample_restrictions(key, posterior, heads, kernel, **options)
    else:
        samples = [sample(key, restrict(posterior, by_path(*components(model)[name])), kernel, **options)]
    estimates = [llc(one) for one in samples]
    found = {field: np.stack([getattr(one, field) for one in estimates]) for field in STORED}
    return {**found, "diverged": found["diverged"].any(axis=1)}
