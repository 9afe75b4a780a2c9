"""A measure: what is asked of a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from slt_jax.typing import Params

__all__ = ["Along", "Measure", "Variable", "each"]


@dataclass(frozen=True)
class Variable:
    """A quantity in `results.zarr`.

    Attributes:
        dims: of its value at one checkpoint.
        long_name: what it is, in words.
        units: "nats", "squared units", "1" for a pure number.
        coords: name of a dimension -> labels along it.
    """

    dims: tuple[str, ...] = ()
    long_name: str = ""
    units: str = "1"


class Measure(Protocol):
    """Frozen settings: a dataclass whose repr, with the subject's identity and the step, is what a finished piece is kept under.

    A new measure is one file. Settings that move no number (`layout`, a chunk size) are left out of the repr
    (`field(repr=False)`).

    Attributes:
        name: of the pieces and in progress bars.
        axis: dimension of `results.zarr` along which checkpoints are stacked: "checkpoint" for what is sampled or costly,
            "step" for what is measured at every step that is kept.
    """

    @property
    def name(self) -> str: ...

    @property
    def axis(self) -> str: ...

    def steps(self, subject: Any) -> Sequence[int]:
        """The steps it asks for."""

    def take(self, subject: Any, params: Params) -> Mapping[str, Any]:
        """The values at one checkpoint, name -> array. A boolean array whose name ends in "diverged" says what was lost; a text
        whose name ends in "_status" says "ok" or what is the matter, and the report repeats what is not "ok"."""

    def variables(self, subject: Any) -> Mapping[str, Variable]:
        """Every name that `take` returns."""

    def coords(self, subject: Any) -> Mapping[str, Sequence]:
        """Labels along dimensions, where they have any."""


@dataclass(frozen=True)
class Along:
    """One question asked several times, of several sources of data say: their answers share names, and a dimension of their own.

    Attributes:
        dim: the dimension.
        measures: label along it -> measure.
    """

    dim: str
    measures: Mapping[Any, Measure]


def each(asked: Sequence[Measure | Along]) -> list[Measure]:
    """Every single measure."""
    return [one for entry in asked for one in (entry.measures.values() if isinstance(entry, Along) else [entry])]
