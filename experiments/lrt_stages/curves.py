"""`curves.csv`: every scalar curve of an `lrt-stages` run, one row per seed and saved step."""

import csv
import io

import numpy as np
import xarray

__all__ = ["curves_csv"]

BEHAVIOUR = ("icl_score", "zero_prediction", "task_prior", "distance_to_ridge", "weight_norm")
LLC = ("llc", "llc_std_error", "llc_rhat", "llc_drift", "llc_drift_std_error")
GEOMETRY = (
    "hessian_trace", "hessian_trace_std_error", "fisher_trace", "fisher_trace_std_error", "effective_dimension",
    "effective_dimension_upper",
)  # fmt: skip


def curves_csv(results: xarray.Dataset) -> str:
    """The text of `curves.csv`; a quantity that was not measured at a step is empty there."""
    collapse = sorted(str(name) for name in results.data_vars if str(name).startswith("collapse."))
    per_token = [f"loss_token_{k}" for k in range(results.sizes["example"])]
    scales = [f"{name}_g{scale:g}" for name in ("ood_input_icl", "ood_task_icl") for scale in results.scale.values]
    by_checkpoint = [name for name in (*LLC, *GEOMETRY) if name in results]
    top = ["hessian_top_eigenvalue"] if "hessian_eigenvalues" in results else []
    head = ["step", "seed", "loss", *per_token, *by_checkpoint, *top, *BEHAVIOUR, *scales, *collapse]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(head)
    checkpoints = set(results.checkpoint.values.tolist())
    for seed in results.seed.values.tolist():
        for step in results.step.values.tolist():
            at = results.sel(seed=seed, step=step)
            here = at.sel(checkpoint=step) if step in checkpoints else None
            writer.writerow([
                step, seed, _cell(at.loss), *map(_cell, at.loss_token.values),
                *("" if here is None else _cell(here[name]) for name in by_checkpoint),
                *("" if here is None else _cell(here.hessian_eigenvalues[0]) for _ in top),
                *(_cell(at[name]) for name in BEHAVIOUR),
                *(_cell(value) for name in ("ood_input_icl", "ood_task_icl") for value in at[name].values),
                *(_cell(at[name]) for name in collapse),
            ])  # fmt: skip
    return table.getvalue()


def _cell(value: object) -> str:
    number = float(np.asarray(value))
    return "" if np.isnan(number) else f"{number:.6g}"
