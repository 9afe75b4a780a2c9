"""What was measured on the known models, beside what is known of them, as one dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray
from scipy.stats import norm

from configs.known_models import KnownModels
from experiments.known_models.models import CURVATURES, KNOWN, coefficient_of
from slt_jax.theory import finite_nbeta_llc, quadratic_sgld_llc
from slt_lab.measure import Variable
from slt_lab.measures.llc import llc_variables
from slt_lab.schema import along, described

__all__ = ["LEVELS", "Row", "gather"]

LEVELS = (0.68, 0.95)
NUTS = {"mean": "llc", "std_error": "llc_std_error", "rhat": "llc_rhat", "ess": "llc_ess", "divergences": "divergences"}
Row = Mapping[str, np.ndarray]

ESTIMATES = {
    **llc_variables(),
    "step_size": Variable((), "step size, in the sampler's own meaning"),
    "seconds": Variable((), "time of the chains, compilation included", "s"),
    "repeat_llc": Variable(("repeat",), "LLC of each repeated estimate"),
    "repeat_llc_std_error": Variable(("repeat",), "standard error of each repeated estimate"),
    "repeat_llc_ess": Variable(("repeat",), "effective draws of each repeated estimate", "draws"),
}
TARGETS = {
    "target": Variable((), "what the sampler should converge to: the exact value, or that at its own step if known"),
    "coverage": Variable(("level",), "share of the repeats whose interval holds the target"),
}
TRUTHS = {
    "exact": Variable((), "nβ E[L] under the local posterior; by NUTS where it is not known"),
    "exact_is_known": Variable((), "whether the exact value is known"),
    "asymptotic": Variable((), "λ - (m - 1)/log nβ"),
    "learning_coefficient": Variable((), "learning coefficient λ"),
    "multiplicity": Variable((), "multiplicity m"),
    "nuts_llc": Variable((), "LLC by NUTS"),
    "nuts_llc_std_error": Variable((), "standard error of the LLC by NUTS"),
    "nuts_llc_rhat": Variable((), "rank-normalised R-hat of NUTS"),
    "nuts_llc_ess": Variable((), "effective draws of NUTS", "draws"),
    "nuts_divergences": Variable((), "share of the transitions of NUTS whose energy error was out of bounds"),
}
VARIABLES = {**along(("model", "sampler"), {**ESTIMATES, **TARGETS}), **along(("model",), TRUTHS)}


def gather(
    config: KnownModels, sampler_names: Sequence[str], rows: Mapping[str, Sequence[Row]], nuts: Mapping[str, Row]
) -> xarray.Dataset:
    """Dims (model, sampler[, repeat | level | chain]); NUTS and what is known with dim model."""
    values: dict[str, Any] = {
        name: np.array([[row[name] for row in line] for line in rows.values()]) for name in ESTIMATES
    }
    coefficients = [coefficient_of(name) for name in rows]
    exact = [
        KNOWN[name]().exact(config.nbeta, config.localization) if name in KNOWN else float(nuts[name]["mean"])
        for name in rows
    ]
    values["target"] = np.array(
        [
            [_target(config, name, sampler, row, value) for sampler, row in zip(sampler_names, rows[name], strict=True)]
            for name, value in zip(rows, exact, strict=True)
        ]
    )
    scores = np.abs(values["repeat_llc"] - values["target"][:, :, None]) / values["repeat_llc_std_error"]
    quantiles = norm.ppf((1 + np.array(LEVELS)) / 2)
    # A NaN holds nothing: the comparison is false.
    values["coverage"] = np.stack([(scores <= q).mean(-1) for q in quantiles], axis=-1)
    values["exact"] = exact
    values["exact_is_known"] = [name in KNOWN for name in rows]
    values["asymptotic"] = [finite_nbeta_llc(each, config.nbeta) for each in coefficients]
    values["learning_coefficient"] = [float(each.learning_coefficient) for each in coefficients]
    values["multiplicity"] = [each.multiplicity for each in coefficients]
    missing = dict.fromkeys(NUTS, np.nan)
    for name, variable in NUTS.items():
        values[f"nuts_{variable}"] = [float(nuts.get(model, missing)[name]) for model in rows]
    return described(values, VARIABLES, {"model": list(rows), "sampler": sampler_names, "level": LEVELS})


def _target(config: KnownModels, name: str, sampler: str, row: Row, exact: float) -> float:
    """What the sampler should converge to: at its own step where that is known, on the posterior otherwise."""
    if name == "quadratic" and sampler == "SGLD, Euler":
        return quadratic_sgld_llc(np.array(CURVATURES), config.nbeta, config.localization, float(row["step_size"]))
    return exact
