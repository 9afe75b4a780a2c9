"""LLC estimates as finished parts of a run: computed once, stored with their traces, gathered over checkpoints."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray

from experiments.run_folder import RunFolder
from slt_jax.estimators.llc import llc
from slt_jax.sampling.samples import Samples

__all__ = ["llc_dataset", "llc_piece"]

SCALARS = ("mean", "std_error", "rhat", "ess", "drift", "drift_std_error", "acceptance")


def llc_piece(folder: RunFolder, name: str, draw: Callable[[], Samples]) -> dict[str, np.ndarray]:
    """The estimate and traces of `draw()`, from storage if they are there."""

    def compute() -> dict[str, Any]:
        samples = draw()
        nbeta = samples.nbeta[:, None]
        return {
            **asdict(llc(samples)),
            "trace": (nbeta * samples.excess).astype(np.float32),
            "burnin_trace": (nbeta * samples.burnin_excess).astype(np.float32),
        }

    return folder.piece(name, compute)


def llc_dataset(estimates: dict[int, dict[int, dict[str, np.ndarray]]]) -> xarray.Dataset:
    """Estimates by seed and step as `llc`, `llc_std_error`, ..., dims (seed, checkpoint[, chain[, draw]])."""
    seeds, steps = list(estimates), list(next(iter(estimates.values())))

    def gather(name: str) -> np.ndarray:
        return np.stack([[estimates[seed][step][name] for step in steps] for seed in seeds])

    variables: dict[str, Any] = {
        f"llc_{name}" if name != "mean" else "llc": (("seed", "checkpoint"), gather(name)) for name in SCALARS
    }
    variables["llc_per_chain"] = (("seed", "checkpoint", "chain"), gather("per_chain"))
    variables["diverged"] = (("seed", "checkpoint", "chain"), gather("diverged"))
    variables["llc_trace"] = (("seed", "checkpoint", "chain", "draw"), gather("trace"))
    variables["llc_burnin_trace"] = (("seed", "checkpoint", "chain", "burnin_step"), gather("burnin_trace"))
    return xarray.Dataset(variables, coords={"seed": seeds, "checkpoint": steps})
