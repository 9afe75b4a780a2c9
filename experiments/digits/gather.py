"""What every sampler and NUTS said of the trained network, as one dataset."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray

from slt_lab.measure import Variable
from slt_lab.measures.llc import llc_variables
from slt_lab.schema import along, described

__all__ = ["NUTS", "Row", "gather"]

NUTS = "NUTS"
Row = Mapping[str, np.ndarray]

OF_EACH = {name: one for name, one in llc_variables().items() if not one.dims} | {
    "step_size": Variable((), "step size, in the sampler's own meaning"),
    "metric_rank": Variable((), "rank of the curvature metric, 0 without one"),
    "gradients": Variable((), "passes over all the data, burn-in included (NUTS: without its adaptation)", "passes"),
    "seconds": Variable((), "time of the chains, tuning and compilation included", "s"),
}
"""By sampler, NUTS last; what NUTS has not is NaN, or an empty text."""
BY_NUTS = {"llc": "mean", "llc_std_error": "std_error", "llc_rhat": "rhat", "llc_ess": "ess", "llc_acceptance": "acceptance"} | {
    name: name for name in ("gradients", "seconds")
}  # fmt: skip
OF_CHAINS = {name: one for name, one in llc_variables().items() if one.dims} | {
    "llc_trace": Variable(("chain", "draw"), "nβ times the loss above that of w*"),
    "llc_burnin_trace": Variable(("chain", "burnin_step"), "the same during burn-in, as many steps of every sampler"),
}
"""By sampler without NUTS, which has its own numbers of chains and draws."""
OF_TRAINING = {
    "loss": Variable((), "mean loss at w*", "nats"),
    "gradient_norm": Variable((), "norm of the gradient at w*", "nats per unit of the parameters"),
    "train_accuracy": Variable((), "share of training images that are told right"),
    "test_accuracy": Variable((), "share of the other images that are told right"),
}
ALONE = {
    "nuts_llc_trace": Variable(("nuts_chain", "nuts_draw"), "nβ times the loss above that of w*, by NUTS"),
    "nuts_divergences": Variable((), "share of the transitions of NUTS whose energy error was out of bounds"),
    "training_loss": Variable(("training_step",), "loss during training", "nats"),
    "num_parameters": Variable((), "number of parameters"),
    "nbeta": Variable((), "nβ"),
}
VARIABLES = {**along(("sampler",), OF_EACH), **along(("sampled",), OF_CHAINS), **OF_TRAINING, **ALONE}


def gather(nbeta: float, training: Row, rows: Mapping[str, Row], nuts: Row) -> xarray.Dataset:
    """Estimates with dim sampler, NUTS last; what has chains apart, with dim sampled."""
    values: dict[str, Any] = {
        name: [*(row[name][()] for row in rows.values()), nuts[BY_NUTS[name]][()] if name in BY_NUTS else _empty(name)]
        for name in OF_EACH
    }
    values |= {name: np.stack([row[name] for row in rows.values()]) for name in OF_CHAINS}
    values |= {name: float(training[name]) for name in OF_TRAINING}
    values |= {
        "nuts_llc_trace": nuts["trace"], "nuts_divergences": float(nuts["divergences"]), "nbeta": nbeta,
        "training_loss": training["losses"], "num_parameters": training["params"].size,
    }  # fmt: skip
    return described(values, VARIABLES, {"sampler": [*rows, NUTS], "sampled": list(rows)})


def _empty(name: str) -> float | str:
    return "" if name.endswith("_status") else np.nan
