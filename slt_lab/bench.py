"""The bench: subjects are trained, measures are taken at their checkpoints, every part once, by as many processes as come."""

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.training.loop import train
from slt_jax.typing import Params
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.joining import beside, merged
from slt_lab.measure import Along, Measure, each
from slt_lab.pieces import digest, same_file, taken
from slt_lab.records import read_record, write_record
from slt_lab.reporting import Reporter
from slt_lab.signals import asked_to_stop
from slt_lab.subject import Subject
from slt_lab.work import at_hand

if TYPE_CHECKING:
    import xarray

__all__ = ["Bench"]

WAIT_SECONDS = 1.0  # between two looks at parts that other workers are at


@dataclass(frozen=True)
class Part:
    """Something to be done once: `is_done` asks, `work` does it under the lock `lock`."""

    title: str
    lock: Path
    is_done: Callable[[], bool]
    work: Callable[["Reporter"], None]
    size: int


@dataclass(frozen=True)
class Bench:
    """A run folder with work to do in it. Nothing that is finished is done again, here or in a folder beside it.

    A checkpoint's training follows from the subject's identity alone, a measurement from that, the measure and the step: other
    settings elsewhere cost nothing again.
    """

    folder: RunFolder

    def run(
        self, subjects: Mapping[Any, Subject], measures: Sequence[Measure | Along], axis: str | None
    ) -> "xarray.Dataset":
        """Train and measure everything.

        Args:
            subjects: label along `axis` -> subject; one alone if there is no axis.
            measures: what is asked of each.
            axis: dimension of the results over subjects.

        Returns:
            Every variable of every measure, dims `(axis, measure.axis, ...)`; NaN (False) where something was not measured.
        """
        import xarray

        single = each(measures)
        wanted = {label: self._steps(subject, single) for label, subject in subjects.items()}
        trainings = [self._training(subject, wanted[label]) for label, subject in subjects.items()]
        self._do(trainings)
        pieces = [
            self._measurement(subject, measure, step)
            for measure in single
            for subject in subjects.values()
            for step in measure.steps(subject)
        ]
        self._do(pieces)
        gathered = [
            merged([part for one in measures for part in self._answers(subject, one)]) for subject in subjects.values()
        ]
        if axis is None:
            return gathered[0]
        return beside(gathered, xarray.DataArray(list(subjects), dims=axis, name=axis))

    def diverged(
        self, subjects: Mapping[Any, Subject], measures: Sequence[Measure | Along], axis: str | None
    ) -> list[str]:
        """One sentence for every measurement that lost something."""
        sentences = []
        for label, subject in subjects.items():
            for measure in each(measures):
                for step in measure.steps(subject):
                    piece = self.folder.pieces.read(self._name(subject, measure, step))
                    lost = sum(int(value.sum()) for name, value in piece.items() if name.endswith("diverged"))
                    if lost:
                        who = f"{axis.replace('_', ' ')} {label}, " if axis else ""
                        how = "; ".join(_said(piece)) or f"{lost} chains of {measure.name}"
                        sentences.append(f"{who}step {step}: {how}")
        return sentences

    def store(self, subject: Subject) -> CheckpointStore:
        """The checkpoints of a subject."""
        return CheckpointStore(self._place(subject))

    def kept(self, subject: Subject) -> list[int]:
        """The steps whose checkpoints are there, ascending; none if its training has not begun."""
        return self.store(subject).steps() if self._place(subject).exists() else []

    def params(self, subject: Subject, step: int) -> Params:
        """Its parameters at `step`."""
        if subject.num_steps == 0:
            return subject.init()
        like = jax.eval_shape(subject.init)
        return jax.tree.map(jnp.asarray, self.store(subject).params(step, like))

    # Training.

    def _place(self, subject: Subject) -> Path:
        return self.folder.path / "checkpoints" / f"{subject.name}-{digest(subject.identity)}"

    def _steps(self, subject: Subject, measures: Sequence[Measure]) -> list[int]:
        asked = {step for measure in measures for step in measure.steps(subject)}
        return sorted({*subject.save_at, *asked, subject.num_steps})

    def _training(self, subject: Subject, steps: Sequence[int]) -> Part:
        place = self._place(subject)

        def is_done() -> bool:
            if subject.num_steps == 0:
                return True
            self._take_over(subject, steps)
            return _is_trained(place, steps)

        return Part(
            f"training {subject.name.replace('_', ' ')}",
            self.folder.path / "locks" / f"{place.name}.lock",
            is_done,
            lambda report: self._train(subject, steps, report),
            subject.num_steps,
        )

    def _take_over(self, subject: Subject, steps: Sequence[int]) -> None:
        """The finished training of a folder beside this one, if it can be read and there is none here."""
        place = self._place(subject)
        if place.exists():
            return
        for neighbour in self.folder.neighbours():
            there = neighbour / "checkpoints" / place.name
            if not _is_sound(there, subject, steps):
                continue
            partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
            shutil.copytree(there, partial, copy_function=same_file, ignore=shutil.ignore_patterns("*.lock"))
            try:
                partial.rename(place)
            except OSError:  # another worker was faster
                shutil.rmtree(partial)
                return
            minutes = read_record(place / "finished.json", "delete that folder")["seconds"] / 60
            Reporter.say(
                f"{subject.name.replace('_', ' ')}: trained already, in {neighbour}; {minutes:.1f} minutes saved"
            )
            return

    def _train(self, subject: Subject, steps: Sequence[int], report: "Reporter") -> None:
        batches, optimizer, key = subject.batches, subject.optimizer, subject.training_key
        if batches is None or optimizer is None or key is None:
            raise ValueError(
                f"subject {subject.name} is trained for {subject.num_steps} steps, and lacks batches, optimizer or training_key"
            )
        place, began = self._place(subject), time.monotonic()
        store = CheckpointStore(place)
        spent = _spent(place)

        def until(last: int, target: CheckpointStore, save_at: Sequence[int]) -> None:
            train(
                key, subject.loss_fn, subject.init(), batches, optimizer, num_steps=last, store=target, save_at=save_at,
                data=subject.data, should_stop=asked_to_stop,
                on_progress=lambda step, loss: report.update(step, f"loss {loss:.3f}"),
            )  # fmt: skip

        try:
            until(subject.num_steps, store, steps)
            missing = sorted(set(steps) - set(store.steps()))
            if missing:  # it was trained before anyone asked for them
                again = CheckpointStore(place.with_name(f"{place.name}-again"))
                until(missing[-1], again, missing)
                like = jax.eval_shape(subject.init)
                for step in missing:
                    store.save_params(step, again.params(step, like))
                store.wait()
                shutil.rmtree(again.directory)
        finally:
            spent += time.monotonic() - began
            if place.exists():
                write_record(place / "spent.json", {"seconds": spent})
        write_record(
            place / "finished.json", {"steps": sorted(store.steps()), "num_steps": subject.num_steps, "seconds": spent}
        )

    # Measuring.

    def _name(self, subject: Subject, measure: Measure, step: int) -> str:
        key = f"{subject.name}-{digest(subject.identity, measure)}"
        return f"{measure.name.replace(' ', '_')}/{key}/step_{step:07d}"

    def _measurement(self, subject: Subject, measure: Measure, step: int) -> Part:
        name, pieces = self._name(subject, measure, step), self.folder.pieces

        def work(report: "Reporter") -> None:
            del report
            with at_hand(self.folder.path / "work" / pieces.lock(name).stem):
                pieces.write(name, measure.take(subject, self.params(subject, step)))

        title = f"{measure.name} {subject.name.replace('_', ' ')}"
        return Part(title, pieces.lock(name), lambda: pieces.has(name), work, 1)

    def _answers(self, subject: Subject, asked: Measure | Along) -> list["xarray.Dataset"]:
        """What was measured, as one dataset if anything was."""
        import xarray

        if not isinstance(asked, Along):
            return [self._gather(subject, asked)] if asked.steps(subject) else []
        parts = {label: self._answers(subject, one) for label, one in asked.measures.items()}
        labels = [label for label, found in parts.items() if found]
        if not labels:
            return []
        return [beside([parts[label][0] for label in labels], xarray.DataArray(labels, dims=asked.dim, name=asked.dim))]

    def _gather(self, subject: Subject, measure: Measure) -> "xarray.Dataset":
        import xarray

        steps = list(measure.steps(subject))
        rows = [self.folder.pieces.read(self._name(subject, measure, step)) for step in steps]
        described = measure.variables(subject)
        for step, row in zip(steps, rows, strict=True):
            if missing := sorted(described.keys() - row.keys()):
                path = self.folder.pieces.path(self._name(subject, measure, step))
                raise UserError(
                    f"{path} was made by an earlier version of its measure ({', '.join(missing)} missing); "
                    "delete it, and the same command computes it again"
                )
        variables = {
            name: (
                (measure.axis, *one.dims),
                np.stack([row[name] for row in rows]),
                {"long_name": one.long_name or name.replace("_", " "), "units": one.units},
            )
            for name, one in described.items()
        }
        coords = {measure.axis: steps, **measure.coords(subject)}
        return xarray.Dataset(variables, coords={name: list(labels) for name, labels in coords.items()})

    # Doing.

    def _do(self, parts: Sequence[Part]) -> None:
        """Every part, in order; those that another process is at are looked at again until they are done."""
        left = list(parts)
        reporter = Reporter(self.folder.path, parts)
        with reporter:
            while left:
                before, left = left, [part for part in left if not self._done(part, reporter)]
                if left and len(left) == len(before):
                    time.sleep(WAIT_SECONDS)
                    if asked_to_stop():
                        raise UserError("stopped while waiting for other workers")

    def _done(self, part: Part, reporter: "Reporter") -> bool:
        reporter.at(part)
        if not part.is_done():
            with taken(part.lock) as mine:
                if not mine:
                    return False
                if not part.is_done():
                    part.work(reporter)
        reporter.finished(part)
        return True


def _said(piece: Mapping[str, np.ndarray]) -> list[str]:
    """Every status in which a divergence is named, once."""
    texts = [str(text) for name, value in piece.items() if name.endswith("_status") for text in np.ravel(value)]
    return list(dict.fromkeys(text for text in texts if "diverged" in text))


def _is_trained(place: Path, steps: Sequence[int]) -> bool:
    """Whether a training is finished and has these checkpoints."""
    if not (place / "finished.json").exists():
        return False
    found = read_record(place / "finished.json", f"delete the folder {place} to train again")
    return found["num_steps"] >= max(steps) and all((place / "params" / str(step)).is_dir() for step in steps)


def _is_sound(place: Path, subject: Subject, steps: Sequence[int]) -> bool:
    """Whether a training elsewhere is finished and every checkpoint of it that is wanted can be read."""
    try:
        if not (place / "finished.json").exists():
            return False
        reach = read_record(place / "finished.json", "")["num_steps"]
        store, like = CheckpointStore(place), jax.eval_shape(subject.init)
        for step in (step for step in store.steps() if step in steps):
            store.params(step, like)
    except (UserError, ValueError):
        return False
    return bool(reach > 0)


def _spent(place: Path) -> float:
    """Seconds of training so far."""
    try:
        return float(read_record(place / "spent.json", "")["seconds"])
    except (UserError, KeyError):
        return 0.0  # nothing depends on it but a sentence
