"""Behaviour, structure and outputs of an `lrt-stages` run at every saved checkpoint."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from experiments.run_folder import RunFolder
from slt_jax.analysis import regression_metrics as metrics
from slt_jax.data.in_context_regression import sample_sequences
from slt_jax.models.regression_transformer import RegressionTransformer, predictions
from slt_jax.progress import progress_bar
from slt_jax.typing import Params, PRNGKey

__all__ = ["measure_behaviour"]

SCALES = (3.0, 5.0, 10.0)  # how much larger inputs and tasks are out of distribution, as in the paper
NUM_OUTPUT_SEQUENCES = 1024  # of the fixed batch of essential dynamics
DIMS = {
    "loss_token": ("example",), "ood_input_icl": ("scale",), "ood_task_icl": ("scale",), "token_spectrum": ("token_mode",),
    "position_spectrum": ("position_mode",), "effective_unembedding": ("width",), "attention_entropy": ("layer", "head"),
    "attention_variability": ("layer", "head"), "attention_distance": ("layer", "head"), "outputs": ("output",),
}  # fmt: skip


def measure_behaviour(
    folder: RunFolder,
    seed: int,
    model: RegressionTransformer,
    params: dict[int, Params],
    key: PRNGKey,
    num_sequences: int,
) -> xarray.Dataset:
    """Every metric at every step of `params`, dims (step[, ...]); the sequences follow from `key`."""

    def compute() -> dict[str, Any]:
        ordinary = sample_sequences(key, num_sequences)
        fewer = max(1, num_sequences // 4)  # six more sets: a quarter of the sequences each
        inputs = [sample_sequences(key, fewer, input_scale=scale) for scale in SCALES]
        tasks = [sample_sequences(key, fewer, task_scale=scale) for scale in SCALES]
        rows = []
        with progress_bar(f"behaviour seed {seed}", len(params)) as update:
            for step, center in params.items():
                rows.append(_row(model, jax.tree.map(jnp.asarray, center), ordinary, inputs, tasks))
                update(len(rows), f"step {step}: loss {float(rows[-1]['loss']):.3f}")
        return {"step": list(params), **{name: np.stack([row[name] for row in rows]) for name in rows[0]}}

    stored = folder.piece(f"metrics/seed_{seed}", compute)
    steps = stored.pop("step")
    variables = {name: (("step", *DIMS.get(name, ())), values) for name, values in stored.items()}
    return xarray.Dataset(variables, coords={"step": steps, "scale": list(SCALES)})


def _row(
    model: RegressionTransformer, params: Params, ordinary: Any, inputs: list[Any], tasks: list[Any]
) -> dict[str, np.ndarray]:
    row: dict[str, Any] = dict(metrics.behaviour(model, params, ordinary))
    row["icl_score"] = metrics.icl_score(row["loss_token"])
    for name, batches in (("ood_input_icl", inputs), ("ood_task_icl", tasks)):
        scores = [
            metrics.out_of_distribution(model, params, batch, scale)["icl_score"]
            for batch, scale in zip(batches, SCALES, strict=True)
        ]
        row[name] = np.stack(scores)
    row |= {f"collapse.{name.replace('/', '.')}": share for name, share in metrics.norm_collapse(params).items()}
    row |= {f"norm_mean.{name.replace('/', '.')}": mean for name, mean in metrics.norm_means(params).items()}
    row |= {f"{name}_spectrum": shares for name, shares in metrics.embedding_spectra(params).items()}
    row["effective_unembedding"] = metrics.effective_unembedding(params)
    first = jax.tree.map(lambda leaf: leaf[:NUM_OUTPUT_SEQUENCES], ordinary)
    row |= {f"attention_{name}": value for name, value in metrics.attention(model, params, first).items()}
    row["weight_norm"] = metrics.weight_norm(params)
    row["outputs"] = jnp.ravel(predictions(model, params, first)).astype(jnp.float32)
    return {name: np.asarray(value) for name, value in row.items()}
