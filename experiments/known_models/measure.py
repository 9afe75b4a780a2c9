"""The computing half of `known-models`: every sampler on every model, in repeated estimates, and NUTS on some."""

import time
from typing import Any

import jax
import numpy as np
import xarray

from configs.known_models import KnownModels
from experiments.known_models.gather import Row, gather
from experiments.known_models.models import KNOWN, check_names, posterior_of
from slt_jax.estimators.llc import llc
from slt_jax.posterior import LocalPosterior
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample
from slt_jax.sampling.samples import Samples, select_chains
from slt_jax.typing import PRNGKey
from slt_lab.comparison import Compared, named, samplers, slug, stored_neighbourhood
from slt_lab.folder import RunFolder
from slt_lab.measures.llc import estimate
from slt_lab.nuts import FEWEST_DRAWS, FEWEST_WARMUP, nuts_llc
from slt_lab.settings import require
from slt_lab.work import sampling_options

__all__ = ["check", "run"]


def check(config: KnownModels) -> None:
    """Refuse names that do not exist, and numbers from which nothing can be estimated."""
    check_names((*config.models, *config.nuts.models))
    named(samplers(None), config.samplers)
    budget, nuts = config.budget, config.nuts
    require(len(config.models) > 0, f"models is empty; there are: {', '.join(KNOWN)}")
    require(config.localization > 0, "localization = 0; the prior of these models needs it positive")
    require(config.nbeta > 1, f"nbeta = {config.nbeta:g}; the asymptotic value divides by log nβ and needs nbeta > 1")
    require(budget.repeats >= 2, f"budget.repeats = {budget.repeats}; their spread needs at least 2")
    require(budget.num_draws >= 4, f"budget.num_draws = {budget.num_draws}; a standard error needs at least 4")
    require(
        nuts.num_warmup >= FEWEST_WARMUP, f"nuts.num_warmup = {nuts.num_warmup}; it must be at least {FEWEST_WARMUP}"
    )
    require(nuts.num_draws >= FEWEST_DRAWS, f"nuts.num_draws = {nuts.num_draws}; it must be at least {FEWEST_DRAWS}")


def run(config: KnownModels, folder: RunFolder) -> tuple[xarray.Dataset, list[str]]:
    """Compute whatever is not in `folder` yet; with one sentence for every estimate that has a diverged chain."""
    chosen = named(samplers(None), config.samplers)
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
            results = gather(config, [sampler.name for sampler in chosen], rows, nuts)
            folder.write_results(results)  # after every model, so that a report can be had before the end
    return results, [
        f"{name}, {sampler.name}: {row['llc_status']}"
        for name, line in rows.items()
        for sampler, row in zip(chosen, line, strict=True)
        if row["llc_diverged"].any()
    ]


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
            thinning=budget.thinning, baseline="full", layout="vmap", **sampling_options(),
        )  # fmt: skip
        seconds = time.perf_counter() - started
        return {
            **estimate(samples), **_repeats(samples, budget.num_chains), "step_size": samples.step_size[0], "seconds": seconds,
        }  # fmt: skip

    return folder.piece(f"estimates/{name}/{slug(sampler)}", compute)


def _repeats(samples: Samples, num_chains: int) -> dict[str, np.ndarray]:
    """Estimates of `num_chains` chains each, `(repeat,)`."""
    count = len(samples.nbeta) // num_chains
    estimates = [llc(select_chains(samples, slice(i * num_chains, (i + 1) * num_chains))) for i in range(count)]
    return {
        "repeat_llc": np.array([estimate.mean for estimate in estimates]),
        "repeat_llc_std_error": np.array([estimate.std_error for estimate in estimates]),
        "repeat_llc_ess": np.array([estimate.ess for estimate in estimates]),
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
