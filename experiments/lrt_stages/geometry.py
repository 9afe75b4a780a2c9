"""Geometry of an `lrt-stages` run beside its LLC: traces, leading eigenvalues, effective dimension; each checkpoint once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from configs.lrt_stages import Geometry, LRTStages
from experiments.run_folder import RunFolder
from slt_jax.estimators.curvature import effective_dimension, fisher_trace, hessian_spectrum, hessian_trace
from slt_jax.progress import progress_bar
from slt_jax.typing import Batch, LossFn, Params

__all__ = ["measure_geometry"]

KEY = 2**20 + 7
PROBES, EIGENVALUES, RANK = range(3)


def measure_geometry(
    config: LRTStages, folder: RunFolder, seed: int, loss_fn: LossFn, data: Batch, params: dict[int, Params]
) -> xarray.Dataset:
    """Geometry at every step of `params`, dims (checkpoint[, eigenvalue]); empty if the configuration leaves it out.

    Probes are the same at every checkpoint, so that differences are sharper.
    """
    geometry = config.geometry
    if geometry.num_probes == 0:
        return xarray.Dataset(coords={"checkpoint": list(params)})
    rows = []
    with progress_bar(f"geometry seed {seed}", len(params)) as update:
        for step, center in params.items():
            compute = partial(_traces, geometry, loss_fn, data, center)
            row = folder.piece(f"geometry/seed_{seed}/step_{step:07d}", compute)
            row |= dict.fromkeys(("effective_dimension", "effective_dimension_upper"), np.asarray(np.nan))
            if geometry.rank and step in (geometry.rank_steps or params):
                compute = partial(_dimension, config, loss_fn, data, center, float(row["hessian_trace"]))
                row |= folder.piece(f"effective_dimension/seed_{seed}/step_{step:07d}", compute)
            rows.append(row)
            update(len(rows), f"step {step}: Hessian trace {float(row['hessian_trace']):.0f}")
    variables = {
        name: (
            ("checkpoint", "eigenvalue") if rows[0][name].ndim else ("checkpoint",),
            np.stack([row[name] for row in rows]),
        )
        for name in rows[0]
    }
    return xarray.Dataset(variables, coords={"checkpoint": list(params)})


def _first(data: Batch, count: int) -> Batch:
    return jax.tree.map(lambda leaf: leaf[:count], data)


def _traces(geometry: Geometry, loss_fn: LossFn, data: Batch, center: Params) -> dict[str, Any]:
    key, params = jax.random.key(KEY), jax.tree.map(jnp.asarray, center)
    examples = _first(data, geometry.num_examples)
    hessian = hessian_trace(
        jax.random.fold_in(key, PROBES), loss_fn, params, examples, num_probes=geometry.num_probes, chunk_size=512
    )  # fmt: skip
    fisher = fisher_trace(loss_fn, params, examples)
    eigenvalues = hessian_spectrum(
        jax.random.fold_in(key, EIGENVALUES), loss_fn, params, examples, rank=geometry.num_eigenvalues,
        num_matvecs=8 * geometry.num_eigenvalues, chunk_size=512,
    )  # fmt: skip
    return {
        "hessian_trace": hessian.mean, "hessian_trace_std_error": hessian.std_error, "fisher_trace": fisher.mean,
        "fisher_trace_std_error": fisher.std_error, "hessian_eigenvalues": eigenvalues,
    }  # fmt: skip


def _dimension(config: LRTStages, loss_fn: LossFn, data: Batch, center: Params, trace: float) -> dict[str, Any]:
    geometry, sampling = config.geometry, config.sampling
    examples = _first(data, geometry.rank_examples)
    eigenvalues = hessian_spectrum(
        jax.random.fold_in(jax.random.key(KEY), RANK), loss_fn, jax.tree.map(jnp.asarray, center), examples,
        rank=geometry.rank,
    )  # fmt: skip
    found = effective_dimension(eigenvalues, trace, nbeta=sampling.nbeta, localization=sampling.localization)
    return {"effective_dimension": found.lower, "effective_dimension_upper": found.upper}
