"""The computing half of `known-models`: every sampler on every model, in repeated estimates, and NUTS on some."""

import time
from dataclasses import asdict
from typing import Any

import jax
import numpy as np
import xarray
from scipy.stats import norm

from configs.known_models import KnownModels
from experiments.known_models.models import CURVATURES, KNOWN, check_names, coefficient_of, posterior_of
from experiments.known_models.nuts import nuts_llc
from experiments.known_models.samplers import Compared, samplers, slug, stored_neighbourhood
from experiments.registry import UserError
from experiments.run_folder import RunFolder
from slt_jax.estimators.llc import llc
from slt_jax.posterior import LocalPosterior
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample
from slt_jax.sampling.samples import Samples, select_chains
from slt_jax.theory import finite_nbeta_llc, quadratic_sgld_llc
from slt_jax.typing import PRNGKey

__all__ = ["LEVELS", "run"]

LEVELS = (0.68, 0.95)
POOLED = ("mean", "std_error", "rhat", "ess", "drift", "drift_std_error", "step_size", "acceptance")
Row = dict[str, np.ndarray]


def run(config: KnownModels, folder: RunFolder) -> list[str]:
    """Compute whatever is not in `folder` yet; returns one sentence for every estimate with a diverged chain."""
    check_names((*config.models, *config.nuts.models))
    chosen = _chosen(config)
    with_nuts = [name for name in config.models if name in config.nuts.models or name not in KNOWN]
    rows: dict[str, list[Row]] = {}
    nuts: dict[str, Row] = {}
    total = len(config.models) * len(chosen) + len(with_nuts)
    with progress_bar("known models", total) as update:
        finished = 0
        for name in config.models:
            posterior = posterior_of(name, config.nbeta, config.localization)
            if name in with_nuts:
                nuts[name] = _nuts(config, folder, name, posterior)
                finished += 1
                update(finished, f"{name}, NUTS")
            rows[name] = []
            for sampler in chosen:
                rows[name].append(_measure(config, folder, name, posterior, sampler))
                finished += 1
                update(finished, f"{name}, {sampler.name}")
            # After every model, so that a report can be had before the end.
            folder.write_results(_dataset(config, [sampler.name for sampler in chosen], rows, nuts))
    return [
        f"{name}, {sampler.name}"
        for name, line in rows.items()
        for sampler, row in zip(chosen, line, strict=True)
        if row["diverged"].any()
    ]


def _chosen(config: KnownModels) -> list[Compared]:
    known = {sampler.name: sampler for sampler in samplers(None)}
    unknown = [name for name in config.samplers if name not in known]
    if unknown:
        raise UserError(f"there is no sampler '{unknown[0]}'; there are: {', '.join(known)}")
    return [known[name] for name in config.samplers or known]


def _key(config: KnownModels, *labels: str) -> PRNGKey:
    """A key that belongs to its labels, whatever else is measured beside them."""
    key = jax.random.key(config.seed)
    for letter in "/".join(labels).encode():
        key = jax.random.fold_in(key, letter)
    return key


def _measure(config: KnownModels, folder: RunFolder, name: str, posterior: LocalPosterior, sampler: Compared) -> Row:
    """The estimate of all chains together, and the repeated estimates they fall into."""

    def compute() -> dict[str, Any]:
        found = stored_neighbourhood(folder, f"pilots/{name}", _key(config, name, "pilot"), posterior, batch_size=None)
        tuned = sampler.sampler.tune(_key(config, name, sampler.name, "tune"), posterior, neighbourhood=found)
        budget, started = config.budget, time.perf_counter()
        samples = sample(
            _key(config, name, sampler.name), posterior, tuned,
            num_chains=budget.repeats * budget.num_chains, num_burnin=budget.num_burnin, num_draws=budget.num_draws,
            thinning=budget.thinning, baseline="full", layout="vmap",
        )  # fmt: skip
        seconds = time.perf_counter() - started
        return {**asdict(llc(samples)), "seconds": seconds, **_repeats(samples, budget.num_chains)}

    return folder.piece(f"estimates/{name}/{slug(sampler)}", compute)


def _repeats(samples: Samples, num_chains: int) -> dict[str, np.ndarray]:
    """Estimates of `num_chains` chains each, `(repeat,)`."""
    count = len(samples.nbeta) // num_chains
    estimates = [llc(select_chains(samples, slice(i * num_chains, (i + 1) * num_chains))) for i in range(count)]
    return {
        "repeat_mean": np.array([estimate.mean for estimate in estimates]),
        "repeat_std_error": np.array([estimate.std_error for estimate in estimates]),
        "repeat_ess": np.array([estimate.ess for estimate in estimates]),
    }


def _nuts(config: KnownModels, folder: RunFolder, name: str, posterior: LocalPosterior) -> Row:
    """NUTS on one posterior; four times as long where it has to serve as the truth."""
    budget, longer = config.nuts, 1 if name in KNOWN else 2

    def compute() -> dict[str, Any]:
        estimate = nuts_llc(
            _key(config, name, "nuts"), posterior, num_chains=longer * budget.num_chains, num_warmup=budget.num_warmup,
            num_draws=longer * budget.num_draws, layout="vmap",
        )  # fmt: skip
        return {**estimate._asdict(), "trace": estimate.trace[:, ::10]}

    return folder.piece(f"nuts/{name}", compute)


def _target(config: KnownModels, name: str, sampler: str, row: Row, exact: float) -> float:
    """What the sampler should converge to: at its own step where that is known, on the posterior otherwise."""
    if name == "quadratic" and sampler == "SGLD, Euler":
        return quadratic_sgld_llc(np.array(CURVATURES), config.nbeta, config.localization, float(row["step_size"]))
    return exact


def _dataset(
    config: KnownModels, sampler_names: list[str], rows: dict[str, list[Row]], nuts: dict[str, Row]
) -> xarray.Dataset:
    """Dims (model, sampler[, level]); NUTS and what is known with dim model."""
    missing = dict.fromkeys(("mean", "std_error", "rhat", "ess", "divergences"), np.nan)
    exact = [
        KNOWN[name]().exact(config.nbeta, config.localization) if name in KNOWN else float(nuts[name]["mean"])
        for name in rows
    ]
    targets = np.array(
        [
            [_target(config, name, sampler, row, value) for sampler, row in zip(sampler_names, rows[name], strict=True)]
            for name, value in zip(rows, exact, strict=True)
        ]
    )
    both = ("model", "sampler")
    variables: dict[str, Any] = {
        name: (both, np.array([[float(row[name]) for row in line] for line in rows.values()]))
        for name in (*POOLED, "seconds")
    }
    for name in ("repeat_mean", "repeat_std_error", "repeat_ess"):
        variables[name] = ((*both, "repeat"), np.array([[row[name] for row in line] for line in rows.values()]))
    variables["target"] = (both, targets)
    means, errors = variables["repeat_mean"][1], variables["repeat_std_error"][1]
    scores = np.abs(means - targets[:, :, None]) / errors
    quantiles = norm.ppf((1 + np.array(LEVELS)) / 2)
    # A NaN holds nothing: the comparison is false.
    variables["coverage"] = ((*both, "level"), np.stack([(scores <= q).mean(-1) for q in quantiles], axis=-1))
    coefficients = [coefficient_of(name) for name in rows]
    variables["exact"] = ("model", np.array(exact))
    variables["exact_is_known"] = ("model", np.array([name in KNOWN for name in rows]))
    variables["asymptotic"] = ("model", np.array([finite_nbeta_llc(each, config.nbeta) for each in coefficients]))
    variables["learning_coefficient"] = ("model", np.array([float(each.learning_coefficient) for each in coefficients]))
    variables["multiplicity"] = ("model", np.array([each.multiplicity for each in coefficients]))
    for name in missing:
        variables[f"nuts_{name}"] = ("model", np.array([float(nuts.get(model, missing)[name]) for model in rows]))
    # As objects: zarr stores those as strings of any length, which its format specifies.
    names = {"model": np.array(list(rows), object), "sampler": np.array(sampler_names, object)}
    return xarray.Dataset(variables, coords={**names, "level": list(LEVELS)})
