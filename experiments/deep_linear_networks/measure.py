"""The computing half of `deep-linear-networks`: every setting on every network of every class."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray

from configs.deep_linear_networks import DeepLinearNetworks, Setting, SizeClass
from experiments.deep_linear_networks.estimate import COURSE_PARTS, estimate_group
from experiments.deep_linear_networks.networks import Network, networks_of, truth
from slt_jax.progress import progress_bar
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.measure import Variable
from slt_lab.schema import along, described

__all__ = ["run"]

TRUTHS = {
    "lower": Variable((), "lower bound of the local learning coefficient"),
    "upper": Variable((), "its upper bound, the theorem's value"),
    "certified": Variable((), "whether the two bounds meet"),
    "half_hessian_rank": Variable((), "half the rank of the Hessian at w*"),
    "aoyagi": Variable((), "learning coefficient of the deepest point of the fibre"),
    "aoyagi_multiplicity": Variable((), "its multiplicity"),
    "multiplicity_bound": Variable((), "largest multiplicity that the local value can have"),
    "num_parameters": Variable((), "number of parameters"),
}
ESTIMATES = {
    "llc": Variable((), "local learning coefficient; NaN if the chain diverged"),
    "llc_std_error": Variable((), "standard error of the LLC"),
    "llc_diverged": Variable((), "whether the chain diverged"),
    "excursion": Variable((), "whether the chain spent some draws far above its level"),
    "llc_course": Variable(("part",), "LLC from one part of the chain after the other"),
    "step_size": Variable((), "step size, in the kernel's own meaning"),
    "gradient_evaluations": Variable((), "gradients of 500 examples, calibration included", "gradients"),
    "metric_rank": Variable((), "rank of the curvature metric, 0 without one"),
    "seconds": Variable((), "share of the time of its group, compilation included", "s"),
}
MEASURED = Variable((), "whether this network was measured in this setting")
VARIABLES = {
    **along(("class", "seed"), TRUTHS),
    **along(("class", "setting", "seed"), {**ESTIMATES, "measured": MEASURED}),
}
TRUTH_VALUES = {"certified", "llc_diverged", "excursion", "measured"}


def run(config: DeepLinearNetworks, folder: RunFolder) -> tuple[xarray.Dataset, list[str]]:
    """Compute whatever is not in `folder` yet; with a sentence per setting and class with diverged chains."""
    networks = {size_class.name: networks_of(config, size_class) for size_class in config.classes}
    found: dict[tuple[str, str], dict[int, dict[str, np.ndarray]]] = {}
    sentences = []
    for size_class in config.classes:
        for setting in config.settings:
            if setting.classes and size_class.name not in setting.classes:
                continue
            rows = _measure(size_class, setting, networks[size_class.name][: setting.num_networks], folder)
            found[size_class.name, setting.name] = rows
            if lost := sum(int(row["llc_diverged"]) for row in rows.values()):
                sentences.append(
                    f"class {size_class.name}, setting {setting.name}: {lost} of {len(rows)} chains ran away or left the "
                    "finite numbers, and their estimates are NaN; use a smaller step_fraction or study_step_size"
                )
    return gather(networks, [setting.name for setting in config.settings], found), sentences


def _measure(
    size_class: SizeClass, setting: Setting, networks: list[Network], folder: RunFolder
) -> dict[int, dict[str, np.ndarray]]:
    """What one setting says of every network, by seed."""
    order = sorted(networks, key=lambda item: (len(item[1].matrices), sum(m.size for m in item[1].matrices)))
    groups = [order[i : i + size_class.together] for i in range(0, len(order), size_class.together)]
    rows: dict[int, dict[str, np.ndarray]] = {}
    with progress_bar(f"{size_class.name}, {setting.name}", len(groups)) as update:
        for done, group in enumerate(groups):
            name = f"{size_class.name}/{setting.name}/group_{done:03d}"
            piece = folder.piece(name, partial(estimate_group, size_class, setting, group))
            if piece["seed"].tolist() != [seed for seed, _ in group]:
                raise UserError(f"piece {name} holds other networks; delete it, or give another --folder")
            for i, (seed, _) in enumerate(group):
                rows[seed] = {key: values[i] for key, values in piece.items() if key != "seed"}
            update(done + 1, "")
    return rows


def gather(
    networks: Mapping[str, list[Network]],
    settings: list[str],
    found: Mapping[tuple[str, str], Mapping[int, Mapping[str, np.ndarray]]],
) -> xarray.Dataset:
    """Dims (class, seed) for what is known, (class, setting, seed[, part]) for estimates; NaN (False) where there is none."""
    classes, seeds = list(networks), sorted({seed for group in networks.values() for seed, _ in group})
    sizes = {"class": len(classes), "setting": len(settings), "seed": len(seeds), "part": COURSE_PARTS}
    values: dict[str, Any] = {
        name: np.full([sizes[dim] for dim in one.dims], False if name in TRUTH_VALUES else np.nan)
        for name, one in VARIABLES.items()
    }
    for c, group in enumerate(networks.values()):
        for seed, network in group:
            for name, value in truth(network).items():
                values[name][c, seeds.index(seed)] = value
    for (class_name, setting), rows in found.items():
        for seed, row in rows.items():
            place = classes.index(class_name), settings.index(setting), seeds.index(seed)
            values["measured"][place] = True
            for name, array in row.items():
                values[name][place] = array
    return described(values, VARIABLES, {"class": classes, "setting": settings, "seed": seeds})
