"""The authors' run of the two-layer model through our stage detection, beside the boundaries they published.

`authors_curves.csv` holds loss and LLC at their 501 checkpoints (the data published with arXiv 2402.02364).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from slt_jax.analysis.stages import Boundary, Stages, detect_stages
from slt_lab.folder import RunFolder

__all__ = ["AUTHORS_HEAD", "PUBLISHED", "authors_rows", "authors_stages", "nearest_boundary", "stages_of_authors"]

CURVES = Path(__file__).with_name("authors_curves.csv")


class Published(NamedTuple):
    """A stage of the paper: where it ends, and the change of LLC over it."""

    name: str
    end: int
    llc_change: float


PUBLISHED = (
    Published("LM1", 900, 26.4), Published("LM2", 6_500, 22.5), Published("LM3", 8_500, -1.57),
    Published("LM4", 17_000, 8.62), Published("LM5", 50_000, 1.77),
)  # fmt: skip
"""Figure 1 of arXiv 2402.02364."""

AUTHORS_HEAD = (
    "stage", "published end", "found", "95% interval", "kind, draws with it", "published change of LLC", "found",
)  # fmt: skip


def authors_stages() -> Stages:
    """The stages of the authors' curves; the noise of the LLC is estimated from its scatter.

    Step 0 is left out: nothing was measured between it and step 100, a third of the run in log time.
    """
    curves = np.genfromtxt(CURVES, delimiter=",", names=True)
    measured = np.isfinite(curves["llc"]) & (curves["step"] > 0)
    steps, llc = curves["step"][measured], curves["llc"][measured]
    return detect_stages(steps, llc, None, curves["step"], curves["loss"], num_restarts=2)


def nearest_boundary(stages: Stages, step: float) -> Boundary | None:
    """The boundary nearest to `step` in log time, among those with support and those without."""
    candidates = (*stages.boundaries, *stages.candidates)
    return min(candidates, key=lambda found: abs(np.log(found.step / step)), default=None)


def stages_of_authors(folder: RunFolder) -> list[list[str]]:
    """The rows of `authors_rows`, found once for a run folder: a minute."""
    return folder.piece("authors", lambda: {"rows": authors_rows(authors_stages())})["rows"].tolist()


def authors_rows(stages: Stages) -> list[list[str]]:
    """Published boundaries, the nearest ones found, and the change of LLC over each stage."""
    rows = []
    for index, (name, end, llc_change) in enumerate(PUBLISHED):
        found = nearest_boundary(stages, end) if index < len(PUBLISHED) - 1 else None
        cells = [name, f"{end:,}"]
        if found is None:
            cells += ["end of the run", "", ""]
        else:
            cells += [
                f"{found.step:,.0f}",
                f"{found.low:,.0f} - {found.high:,.0f}",
                f"{found.kind}, {found.support:.0%}",
            ]
        same = len(stages.stages) == len(PUBLISHED)
        ours = f"{stages.stages[index].llc_change:+.2f}" if same else ""
        rows.append([*cells, f"{llc_change:+.2f}", ours])
    return rows
