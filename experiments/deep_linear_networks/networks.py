"""Which networks are measured, and their exact values; what cannot be measured is refused here."""

from collections.abc import Sequence

from configs.deep_linear_networks import DeepLinearNetworks, Setting, SizeClass
from experiments.deep_linear_networks.estimate import COURSE_PARTS, STUDY_BATCH, kernel_of
from slt_jax import theory
from slt_jax.data.linear import DeepLinearTeacher, random_deep_linear
from slt_lab.errors import UserError
from slt_lab.settings import require

__all__ = ["Network", "check", "networks_of", "seeds_of", "teacher", "truth"]

Network = tuple[int, DeepLinearTeacher]
"""A network with its seed."""


def check(config: DeepLinearNetworks) -> None:
    """Refuse classes and settings that contradict themselves or each other."""
    for kind, names in (
        ("classes", [one.name for one in config.classes]),
        ("settings", [one.name for one in config.settings]),
    ):
        require(len(names) > 0, f"{kind} is empty; give at least one")
        twice = [name for name in names if names.count(name) > 1]
        require(not twice, f"{kind} names {twice[:1]} twice; each may be given once")
    for number, size_class in enumerate(config.classes):
        _check_class(config, size_class, f"classes.{number}")
    for number, setting in enumerate(config.settings):
        _check_setting(config, setting, f"settings.{number}")


def _check_class(config: DeepLinearNetworks, size_class: SizeClass, where: str) -> None:
    for name, (low, high) in (("num_layers", size_class.num_layers), ("widths", size_class.widths)):
        require(1 <= low <= high, f"{where}.{name} = {low} {high}; give a range low <= high that starts at 1 or above")
    require(
        size_class.num_examples % STUDY_BATCH == 0,
        f"{where}.num_examples = {size_class.num_examples}; it must be a multiple of {STUDY_BATCH}, the examples of a block",
    )
    require(
        len(seeds_of(config, size_class)) > 0,
        f"class {size_class.name} has no networks; give {where}.num_networks or seeds",
    )


def _check_setting(config: DeepLinearNetworks, setting: Setting, where: str) -> None:
    known = [size_class.name for size_class in config.classes]
    unknown = [name for name in setting.classes if name not in known]
    require(not unknown, f"{where}.classes names {unknown[:1]}; there are: {', '.join(known)}")
    require(
        setting.batch_size % STUDY_BATCH == 0,
        f"{where}.batch_size = {setting.batch_size}; it must be a multiple of {STUDY_BATCH}, the examples of a block",
    )
    require(setting.num_networks != 0, f"{where}.num_networks = 0; it must be at least 1")
    require(setting.kept_share <= 1, f"{where}.kept_share = {setting.kept_share:g}; it must be at most 1")
    require(setting.friction < 1, f"{where}.friction = {setting.friction:g}; it must be below 1")
    require(
        setting.metric or setting.second_nbeta_factor is None,
        f"{where}.second_nbeta_factor = {setting.second_nbeta_factor}; a second chain needs the metric",
    )
    if setting.metric:
        require(setting.step == "calibrated", f"{where}.step = study; with a metric it must be calibrated")
        adaptive = getattr(kernel_of(setting), "preconditioner", None) is not None
        require(not adaptive, f"{where}.kernel = {setting.kernel}; it brings its own preconditioner, so give no metric")
    for size_class in config.classes:
        steps = setting.num_steps or size_class.study_steps
        require(
            steps >= COURSE_PARTS and round(setting.kept_share * steps) >= 4,
            f"setting {setting.name} keeps {round(setting.kept_share * steps)} of {steps} steps; it needs at least "
            f"{COURSE_PARTS} steps, and 4 that are kept",
        )


def seeds_of(config: DeepLinearNetworks, size_class: SizeClass) -> Sequence[int]:
    """The seeds of the class's networks.

    Raises:
        UserError: if they cannot be read.
    """
    if not config.seeds:
        return range(size_class.num_networks)
    form = f"seeds = '{config.seeds}'; give first:last, such as 1000:1100, or a list, such as 3,17,40"
    try:
        if ":" not in config.seeds:
            seeds = sorted({int(part) for part in config.seeds.split(",")})
        else:
            first, last = (int(part) for part in config.seeds.split(":"))
            seeds = list(range(first, last))
    except ValueError:
        raise UserError(form) from None
    if not seeds or seeds[0] < 0:
        raise UserError(f"{form}; with 0 <= first < last")
    return seeds


def networks_of(config: DeepLinearNetworks, size_class: SizeClass) -> list[Network]:
    """The networks of a class."""
    return [(seed, teacher(size_class, seed)) for seed in seeds_of(config, size_class)]


def teacher(size_class: SizeClass, seed: int) -> DeepLinearTeacher:
    """The network of this class and seed."""
    return random_deep_linear(seed, num_layers=size_class.num_layers, widths=size_class.widths)


def truth(network: DeepLinearTeacher) -> dict[str, float | bool]:
    """What is known exactly of a network."""
    value = theory.deep_linear_network_local(network.widths, network.ranks)
    return {
        "lower": float(value.lower),
        "upper": float(value.upper),
        "certified": bool(value.certified),
        "half_hessian_rank": float(value.half_hessian_rank),
        "aoyagi": float(value.global_coefficient.learning_coefficient),
        "aoyagi_multiplicity": float(value.global_coefficient.multiplicity),
        "multiplicity_bound": float(value.multiplicity_bound),
        "num_parameters": float(sum(matrix.size for matrix in network.matrices)),
    }
