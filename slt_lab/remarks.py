"""What estimates say of themselves, where it is not "ok": the last section of every report."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from slt_lab.page import Section, Table

if TYPE_CHECKING:
    import xarray

__all__ = ["Remark", "remarks", "section"]

STATUS = "_status"
"""Ends the name of the text in which an estimate says "ok" or what is the matter."""
MOST = 40
"""Rows of the table."""


class Remark(NamedTuple):
    """One estimate that is not "ok".

    Attributes:
        estimate: name of its variable.
        place: its labels along the dimensions, in words.
        status: what it says.
    """

    estimate: str
    place: str
    status: str


def remarks(results: "xarray.Dataset") -> tuple[list[Remark], int]:
    """Every estimate whose status is not "ok", and the number of all that have one."""
    said = [remark for name in results.data_vars if str(name).endswith(STATUS) for remark in _all(results[name])]
    return [remark for remark in said if remark.status != "ok"], len(said)


def section(results: "xarray.Dataset") -> Section | None:
    """The remarks as a section of the report; `None` if no estimate has a status."""
    found, count = remarks(results)
    if not count:
        return None
    title = "What the estimates say of themselves"
    if not found:
        return Section(
            title,
            [f"All {count} estimates are ok." if count > 1 else "The estimate is ok."],
            headline=f"{count} of {count} ok",
        )
    sentences = [
        f"{len(found)} of {count} estimates are not ok. What each remark means, and what to do, is in "
        "docs/reading-an-estimate.md."
    ]
    if any("not a minimum" in remark.status for remark in found):
        sentences.append(
            "A checkpoint in the middle of training is seldom a minimum of the loss on the data of the posterior. The remark "
            "then says by how much the potential still falls, which is about what the LLC lacks."
        )
    if len(found) > MOST:
        sentences.append(f"The first {MOST} are shown; all are in results.zarr.")
    table = Table(["estimate", "at", "status"], found[:MOST])
    return Section(title, sentences, table, headline=f"{count - len(found)} of {count} ok")


def _all(status: "xarray.DataArray") -> Iterator[Remark]:
    """Every place of one variable that was measured."""
    estimate = str(status.name).removesuffix(STATUS)
    for index, text in np.ndenumerate(status.values):
        if str(text):
            labels = zip(status.dims, index, strict=True)
            place = ", ".join(f"{str(dim).replace('_', ' ')} {_label(status, str(dim), at)}" for dim, at in labels)
            yield Remark(estimate, place, str(text))


def _label(status: "xarray.DataArray", dim: str, at: int) -> str:
    return str(status[dim].values[at]) if dim in status.coords else str(at)
