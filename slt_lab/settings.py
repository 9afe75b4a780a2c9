"""Settings that configs share, and what no configuration may hold: found before anything is computed or written."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from slt_lab.errors import UserError

if TYPE_CHECKING:
    from slt_jax.sampling.sampler import Sampler

__all__ = ["Sampling", "check_config", "require", "up_to"]


@dataclass(frozen=True)
class Sampling:
    """The local posterior over all weights, and SGLD for it."""

    num_examples: int = 2**15
    """n: fixed examples the empirical loss averages over."""
    nbeta: float = 66.67
    localization: float = 6.67
    step_size: float | None = 3e-4
    batch_size: int = 256
    num_chains: int = 2
    num_draws: int = 1000
    num_burnin: int = 1000
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)  # a further one moves no number
    """Checkpoints whose LLC is estimated; empty for all but the untrained model, which is at no minimum."""
    layout: Literal["auto", "vmap", "map"] = field(default="auto", repr=False)  # moves no number
    """Chains of a device side by side (`vmap`) or one after the other (`map`, less memory)."""

    def sampler(self) -> "Sampler":
        """The sampler these settings describe."""
        from slt_jax.sampling.sampler import Sampler
        from slt_jax.sampling.sgld import sgld

        return Sampler(sgld(self.batch_size), step_size=self.step_size)


def up_to(num_steps: int, steps: Sequence[int]) -> list[int]:
    """Those of `steps` that a training of `num_steps` has, ascending, each once."""
    return sorted({step for step in steps if step <= num_steps})


MAY_BE_ZERO = {
    "ascent", "begins", "checkpoint_steps", "head_dropout", "head_resampling", "language", "localization", "looks", "mlp_dim",
    "noise_variance", "num_burnin", "num_eigenvalues", "num_linear_checkpoints", "num_log_checkpoints", "num_networks", "num_probes",
    "persistence", "rank", "rank_steps", "seed", "seeds", "weight_decay", "weight_noise",
}  # fmt: skip
"""Names of fields for which 0 has a meaning; every other number of a configuration is positive."""
SEEDS = ("seed", "seeds")
LARGEST_SEED = 2**63 - 1


def require(holds: bool, sentence: str) -> None:
    """Refuse, with `sentence`, what does not hold of a configuration.

    Raises:
        UserError: unless it holds.
    """
    if not holds:
        raise UserError(sentence)


def check_config(config: Any) -> None:
    """Refuse a configuration with a number that no experiment can use, or that is given twice where each is a run of its own.

    Raises:
        UserError: naming the field as its flag does, its value and what is accepted.
    """
    for name, value in _numbers(config, ""):
        flag = name.rsplit(".", 1)[-1]
        lowest = 0 if flag in MAY_BE_ZERO else 1 if isinstance(value, int) else None
        if not math.isfinite(value):
            raise UserError(f"{name} = {value}; it must be finite")
        if lowest is None and value <= 0:
            raise UserError(f"{name} = {value}; it must be positive")
        if lowest is not None and value < lowest:
            raise UserError(f"{name} = {value}; it must be at least {lowest}")
        if flag in SEEDS and value > LARGEST_SEED:
            raise UserError(f"{name} = {value}; it must be at most {LARGEST_SEED}")
        if isinstance(value, int) and flag not in SEEDS and value > 2**53:
            raise UserError(f"{name} = {value}; it must be at most {2**53}")
    for name, values in _lists(config, ""):
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise UserError(f"{name} names {twice[0]} twice; each may be given once")


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    """Every number in `value` with the name of its flag, through dataclasses and tuples."""
    if dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from _numbers(getattr(value, one.name), f"{name}.{one.name}".lstrip("."))
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _numbers(one, name)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value


def _lists(value: Any, name: str) -> Iterator[tuple[str, list]]:
    if dataclasses.is_dataclass(value):
        for one in dataclasses.fields(value):
            yield from _lists(getattr(value, one.name), f"{name}.{one.name}".lstrip("."))
    elif isinstance(value, (tuple, list)):
        yield name, list(value)
