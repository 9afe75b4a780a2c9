"""What no configuration may hold, found before anything is computed or written: hours of training may come before its use."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from experiments.registry import UserError

__all__ = ["check_config"]

MAY_BE_ZERO = {
    "checkpoint_steps", "localization", "mlp_dim", "noise_variance", "num_burnin", "num_eigenvalues", "num_linear_checkpoints",
    "num_log_checkpoints", "num_networks", "num_probes", "persistence", "rank", "rank_steps", "seed", "seeds", "weight_decay",
}  # fmt: skip
"""Names of fields for which 0 has a meaning; every other number of a configuration is positive."""


def check_config(config: Any) -> None:
    """Refuse a configuration with a number that is negative, zero where that means nothing, or not finite.

    Raises:
        UserError: naming the field as its flag does, its value and what is accepted.
    """
    for name, value in _numbers(config, ""):
        lowest = 0 if name.rsplit(".", 1)[-1] in MAY_BE_ZERO else 1 if isinstance(value, int) else None
        if not math.isfinite(value):
            raise UserError(f"{name} = {value}; it must be finite")
        if lowest is None and value <= 0:
            raise UserError(f"{name} = {value}; it must be positive")
        if lowest is not None and value < lowest:
            raise UserError(f"{name} = {value}; it must be at least {lowest}")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Every number in `value` with the name of its flag, through dataclasses and tuples."""
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _numbers(one, name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value
