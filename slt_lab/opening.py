"""A run as a notebook wants it: its numbers, its figures, and its checkpoints as parameters to go on with."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slt_jax.posterior import LocalPosterior, default_nbeta
from slt_jax.typing import Params
from slt_lab.bench import Bench
from slt_lab.catalogue import Catalogue
from slt_lab.cli import restore_config
from slt_lab.errors import UserError
from slt_lab.experiment import Experiment
from slt_lab.folder import RunFolder
from slt_lab.page import Page
from slt_lab.settings import Sampling
from slt_lab.subject import Subject

if TYPE_CHECKING:
    import xarray

__all__ = ["Run", "open_run"]

NUM_EXAMPLES, LOCALIZATION = 1024, 1.0
"""Of a posterior whose settings neither the caller nor the run's config gives."""


@dataclass(frozen=True)
class Run:
    """An opened run folder. Nothing in it trains, and nothing is written.

    Attributes:
        folder: where it is.
        experiment: what was run.
        config: with which settings.
    """

    folder: RunFolder
    experiment: Experiment
    config: Any

    @cached_property
    def results(self) -> "xarray.Dataset":
        """Everything that was measured."""
        return self.folder.read_results()

    @cached_property
    def subjects(self) -> Mapping[Any, Subject]:
        """What was trained, by label: model, loss function, data. Empty where nothing was."""
        return {} if self.experiment.subjects is None else self.experiment.subjects(self.config, self.folder)

    def steps(self, label: Any) -> list[int]:
        """The steps of a subject's training whose parameters are stored."""
        subject = self._subject(label)
        return [0] if subject.num_steps == 0 else Bench(self.folder).kept(subject)

    def params(self, label: Any, step: int) -> Params:
        """The parameters of a subject at a step.

        Raises:
            UserError: if there is no such subject or step; the sentence names those there are.
        """
        subject, steps = self._subject(label), self.steps(label)
        if step not in steps:
            raise UserError(f"{subject.name} has no checkpoint at step {step}; there are: {', '.join(map(str, steps))}")
        return Bench(self.folder).params(subject, step)

    def posterior(
        self,
        label: Any,
        step: int,
        *,
        nbeta: float | None = None,
        localization: float | None = None,
        num_examples: int | None = None,
    ) -> LocalPosterior:
        """The local posterior at a checkpoint, for `slt_jax.sample`, `calibrate`, `restrict` and the rest.

        Args:
            label: of the subject, as in `subjects`.
            step: of its training.
            nbeta, localization, num_examples: by default those that the run's LLC was estimated with (`config.sampling`);
                of a config without one, n / log n, 1 and 1,024.

        Raises:
            UserError: if there is no such subject or step.
        """
        params = self.params(label, step)
        chosen = getattr(self.config, "sampling", None)
        sampling = chosen if isinstance(chosen, Sampling) else None
        if num_examples is None:
            num_examples = sampling.num_examples if sampling else NUM_EXAMPLES
        if nbeta is None:
            nbeta = sampling.nbeta if sampling else default_nbeta(num_examples)
        if localization is None:
            localization = sampling.localization if sampling else LOCALIZATION
        subject = self._subject(label)
        return LocalPosterior(subject.loss_fn, subject.posterior_data(num_examples), params, nbeta, localization)

    def page(self) -> Page:
        """The run's page made again: `page().sections[0].figures[0].figure` is a matplotlib figure."""
        return self.experiment.drawn(self.results, self.config)

    def _subject(self, label: Any) -> Subject:
        if label not in self.subjects:
            known = ", ".join(map(repr, self.subjects)) or "none, for nothing was trained"
            raise UserError(f"{self.folder.path} has no subject {label!r}; there are: {known}")
        return self.subjects[label]


def open_run(folder: Path | str) -> Run:
    """Open a run folder that `python -m experiments` or `python -m slt_lab` made.

    Args:
        folder: the run folder.

    Raises:
        UserError: if there is none, or its experiment cannot be found: a listed one needs the package `experiments` to be
            importable (a notebook in a clone is at home), a user's own the file it was run from.

    Example:
        run = open_run("runs/transient-ridge-tiny-0123abcd")
        posterior = run.posterior(8, 20, localization=100.0)
    """
    opened = RunFolder.existing(Path(folder))
    experiment = _catalogue(opened).find(opened.experiment)
    return Run(opened, experiment, restore_config(experiment, opened))


def _catalogue(folder: RunFolder) -> Catalogue:
    if folder.experiment.endswith(".py"):
        return Catalogue("python -m slt_lab", {})
    if find_spec("experiments") is None or find_spec("experiments.catalogue") is None:
        raise UserError(
            f"{folder.path} is a run of '{folder.experiment}', which is found where the package `experiments` can be "
            "imported: start from the root of a clone, or add it to sys.path"
        )
    return import_module("experiments.catalogue").CATALOGUE
