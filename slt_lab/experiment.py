"""An experiment: what is trained, what is asked of it, and what is shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from slt_lab.bench import Bench
from slt_lab.folder import RunFolder
from slt_lab.measure import Along, Measure
from slt_lab.page import STYLE, Page, write_page
from slt_lab.remarks import remarks, section
from slt_lab.reporting import Reporter
from slt_lab.subject import Subject

if TYPE_CHECKING:
    import xarray

__all__ = ["Experiment"]


@dataclass(frozen=True)
class Experiment:
    """One published result, or a question of one's own.

    Attributes:
        name: as on the command line.
        summary: one line.
        paper: where it comes from, "arXiv 2402.02364, figures 1 and 2"; may be empty.
        configs: name -> function that makes a frozen dataclass. Its docstring is the config's lab card.
        page: `(results, config) -> Page`, pure.
        subjects: `config -> {label: Subject}`; a tokenizer or a corpus that has to be made once is kept in the folder given.
        measures: `config -> [Measure, ...]`.
        facts: `(config, subjects, folder) -> {name: text or number}`, found before anything is trained: attributes of the
            results, for what is no measurement of a checkpoint.
        axis: dimension of the results over subjects, "seed"; `None` for a single subject.
        check: `config -> None`, raises `UserError` on a configuration that contradicts itself, before anything is written.
        run: instead of subjects and measures, `(config, folder) -> (results, sentences on what diverged)`, for an experiment
            that is neither training nor measuring at checkpoints.
    """

    name: str
    summary: str
    configs: Mapping[str, Callable[[], Any]]
    page: Callable[["xarray.Dataset", Any], Page]
    paper: str = ""
    subjects: Callable[[Any, RunFolder], Mapping[Any, Subject]] | None = None
    measures: Callable[[Any], Sequence[Measure | Along]] | None = None
    facts: Callable[[Any, Mapping[Any, Any], RunFolder], Mapping[str, Any]] = lambda config, subjects, folder: {}
    axis: str | None = None
    check: Callable[[Any], None] = lambda config: None
    run: Callable[[Any, RunFolder], tuple["xarray.Dataset", list[str]]] | None = None

    def compute(self, config: Any, folder: RunFolder) -> list[str]:
        """Do whatever is not done yet, write results and report; returns a sentence on everything that diverged."""
        if self.run is not None:
            results, diverged = self.run(config, folder)
        else:
            assert self.subjects is not None
            assert self.measures is not None
            subjects, measures, bench = self.subjects(config, folder), self.measures(config), Bench(folder)
            facts = self.facts(config, subjects, folder)
            results = bench.run(subjects, measures, self.axis).assign_attrs(facts)
            diverged = bench.diverged(subjects, measures, self.axis)
        with folder.assembling():
            folder.write_results(results)
            self.report(config, folder)
        return diverged

    def drawn(self, results: "xarray.Dataset", config: Any) -> Page:
        """The page, its figures in the style sheet of every report."""
        import matplotlib.pyplot as plt

        with plt.style.context(STYLE):
            return self.page(results, config)

    def report(self, config: Any, folder: RunFolder) -> None:
        """Write the page from what is stored, with what the estimates say of themselves at its end."""
        results = folder.read_results()
        page, said = self.drawn(results, config), section(results)
        write_page(folder, page if said is None else replace(page, sections=[*page.sections, said]))
        found, count = remarks(results)
        if found:
            Reporter.say(f"{len(found)} of {count} estimates are not ok; the end of the report names them")
