"""What `superposition` computes: phases and their LLCs, runs of SGD, posterior shares, predictions. Each part is kept once done."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray

from configs.superposition import Superposition
from experiments.superposition.check import FAMILIES, phase_free_energy, prior_free_energy
from experiments.superposition.phases import converged, gaussian_llc, measured_llcs
from experiments.superposition.predictions import PREDICTIONS, crossings
from experiments.superposition.selection import basins, shares, temper
from experiments.superposition.training import train
from slt_jax.progress import progress_bar
from slt_jax.theory.superposition import Polygon, polygons
from slt_jax.typing import PRNGKey
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.streams import stream

__all__ = ["check", "run"]

LARGEST_NBETA, FEWEST_PARTICLES = 1e6, 8


def check(config: Superposition) -> None:
    """Refuse what has no phases, no polygons that are known, or no temperatures in order."""
    if config.features != 6:
        raise UserError(f"features = {config.features}; the phases and predictions shown here are those of 6")
    for part in ("chains", "training", "selection", "check"):
        for name, value in vars(getattr(config, part)).items():
            if not all(0 < one < math.inf for one in (value if isinstance(value, tuple) else (value,))):
                raise UserError(f"{part}.{name} = {value}; it must be positive")
    for name, values in (("nbetas", config.chains.nbetas), ("ratios", config.chains.ratios)):
        if not values or len(set(values)) < len(values):
            raise UserError(f"chains.{name} = {values}; give at least one number, and none twice")
    if max(config.chains.nbetas) > LARGEST_NBETA:
        raise UserError(
            f"chains.nbetas has {max(config.chains.nbetas):g}; above {LARGEST_NBETA:g} float32 loses the differences of losses"
        )
    if config.chains.num_chains < 2:
        raise UserError("chains.num_chains = 1 leaves no R-hat, and chains that left unseen; give at least 2")
    examples = config.selection.examples
    if len(examples) < 2 or list(examples) != sorted(set(examples)):
        raise UserError(f"selection.examples = {examples}; give at least two numbers, ascending")
    if config.training.num_steps % config.training.num_records:
        raise UserError(
            f"training.num_records = {config.training.num_records} does not divide training.num_steps = {config.training.num_steps}"
        )
    for name, found in (("selection", config.selection.num_repeats), ("check", config.check.num_repeats)):
        if found < 2:
            raise UserError(f"{name}.num_repeats = {found} leaves no error bars; give at least 2")
    for name, found in (("selection", config.selection.num_particles), ("check", config.check.num_particles)):
        if found < FEWEST_PARTICLES:
            raise UserError(f"{name}.num_particles = {found}; a population has at least {FEWEST_PARTICLES}")
    strange = sorted(set(config.check.examples) - set(examples))
    if strange:
        raise UserError(f"check.examples has {strange}, which are not among selection.examples = {examples}")


def run(config: Superposition, folder: RunFolder) -> tuple[xarray.Dataset, list[str]]:
    """Compute whatever is not in `folder` yet; returns the results and a sentence for every LLC with a diverged chain."""
    phases, key = polygons(config.features), stream("superposition/chains", config.seed)
    parts, diverged, total = [], [], len(phases) + 4
    with progress_bar("superposition", total) as update:
        for index, phase in enumerate(phases):
            row = folder.piece(f"phases/{_slug(phase)}", partial(_phase, key, index, phase, config))
            parts.append(row)
            update(index + 1, phase.name)
            diverged += [f"{phase.name}: {int(row['llc_num_diverged'].sum())} chains"] * bool(
                row["llc_num_diverged"].any()
            )
        trained = folder.piece("training", lambda: _train(config))
        update(total - 3, "SGD")
        selected = folder.piece("selection", lambda: _select(config, phases))
        update(total - 2, "selection")
        checked = folder.piece("check", lambda: _check(config))
        update(total - 1, "check")
        predicted = folder.piece("predictions", lambda: {"crossing": np.array([*crossings().values()])})
        update(total, "predictions")
    return _dataset(config, phases, parts, trained, selected, checked, predicted), diverged


def _slug(phase: Polygon) -> str:
    return phase.name.replace("+", "plus").replace("-", "")


def _phase(key: PRNGKey, index: int, phase: Polygon, config: Superposition) -> dict[str, Any]:
    descent, chains = jax.random.split(jax.random.fold_in(key, index))
    found = {**converged(descent, phase), **measured_llcs(chains, phase, config.chains)}
    found["gaussian_llc"] = np.array([gaussian_llc(found["curvature"], ratio) for ratio in config.chains.ratios])
    return found


def _train(config: Superposition) -> dict[str, Any]:
    return train(stream("superposition/training", config.seed), config.training, config.features)


def _select(config: Superposition, phases: list[Polygon]) -> dict[str, Any]:
    keys = jax.random.split(stream("superposition/selection", config.seed), config.selection.num_repeats)
    paths = jax.lax.map(lambda one: temper(one, config.selection, config.features), keys)
    return {
        "share": shares(basins(paths, config.features), np.asarray(paths.weights), phases), "acceptance": paths.acceptance,
        "free_energy": paths.free_energy, "weight_ess": 1 / jnp.sum(paths.weights**2, axis=-1) / config.selection.num_particles,
    }  # fmt: skip


def _check(config: Superposition) -> dict[str, Any]:
    prior_key, phase_key = jax.random.split(stream("superposition/check", config.seed))
    found = prior_free_energy(
        prior_key, np.array(config.selection.examples), config.check.num_prior_draws, config.features
    )
    each = [
        [phase_free_energy(jax.random.fold_in(phase_key, n), name, n, config.check) for name in FAMILIES]
        for n in config.check.examples
    ]
    for part in ("energy", "acceptance"):
        found[f"alone_{part}"] = np.array([[one[part] for one in row] for row in each])
    return found


def _dataset(
    config: Superposition, phases: list[Polygon], parts: list, trained: Any, selected: Any, checked: Any, predicted: Any
) -> xarray.Dataset:
    """Dims: phase, (nbeta, ratio) for LLCs; (run, step) for SGD; (repeat, n, state) for shares; (checked_n, family, again)."""

    def over_phases(name: str) -> np.ndarray:
        return np.stack([part[name] for part in parts])

    variables: dict[str, Any] = {
        name: (("phase", "nbeta", "ratio"), over_phases(name), {"units": "1"})
        for name in (
            "llc",
            "llc_std_error",
            "llc_rhat",
            "llc_ess",
            "llc_drift",
            "llc_drift_std_error",
            "llc_num_diverged",
            "llc_lowest",
        )
    }
    variables |= {name: ("phase", over_phases(name), {"units": "squared units"}) for name in ("loss", "converged_loss")}
    variables["gaussian_llc"] = (("phase", "ratio"), over_phases("gaussian_llc"), {"units": "1"})
    variables["curvature"] = (("phase", "direction"), over_phases("curvature"), {"units": "squared units"})
    variables["learning_coefficient"] = ("phase", [float(one.learning_coefficient) for one in phases], {"units": "1"})
    variables["exact_loss"] = ("phase", [one.loss for one in phases], {"units": "squared units"})
    variables["weights"] = (("phase", "hidden", "feature"), np.stack([one.weights for one in phases]), {"units": "1"})
    variables["biases"] = (("phase", "feature"), np.stack([one.biases for one in phases]), {"units": "1"})
    variables["training_loss"] = (("run", "step"), trained["loss"], {"units": "squared units"})
    variables["lowest_curvature"] = (("run", "step"), trained["lowest_curvature"], {"units": "squared units"})
    variables["training_end"] = (("run", "step"), trained["end"], {"units": "squared units"})
    variables["points"] = (("run", "step", "parameter"), trained["points"], {"units": "1"})
    variables["share"] = (("repeat", "n", "state"), selected["share"], {"units": "1"})
    variables["acceptance"] = (("repeat", "n"), selected["acceptance"], {"units": "1"})
    variables["free_energy"] = (("repeat", "n"), selected["free_energy"], {"units": "nats"})
    variables["weight_ess"] = (("repeat", "n"), selected["weight_ess"], {"units": "1"})
    for name in ("prior_free_energy", "prior_std_error", "prior_effective_draws"):
        variables[name] = ("n", checked[name], {"units": "draws" if "draws" in name else "nats"})
    variables["alone_free_energy"] = (("checked_n", "family", "again"), checked["alone_energy"], {"units": "nats"})
    variables["alone_acceptance"] = (("checked_n", "family", "again"), checked["alone_acceptance"], {"units": "1"})
    variables["crossing"] = ("prediction", predicted["crossing"], {"units": "examples"})
    names = [one.name for one in phases]
    coords = {
        "phase": np.array(names, object), "state": np.array([*names, "other"], object), "nbeta": list(config.chains.nbetas),
        "ratio": list(config.chains.ratios), "step": trained["step"], "n": list(config.selection.examples),
        "prediction": np.array(PREDICTIONS, object), "checked_n": list(config.check.examples),
        "family": np.array(FAMILIES, object),
    }  # fmt: skip
    return xarray.Dataset(variables, coords=coords)
