"""Launchers of a sweep: on this machine, on Slurm through `submitit`, or printed for any other queue."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from slt_lab.errors import Exit, UserError
from slt_lab.sweep import Sweep

__all__ = ["Command", "SweepOptions", "launch"]


@dataclass(frozen=True)
class Slurm:
    """Of each job."""

    partition: str | None = None
    minutes: int = 60
    """Time limit; a run that needs longer saves its state before it and is queued again."""
    cpus: int = 2
    memory_gb: int | None = None
    gpus: int = 0
    requeues: int = 100
    """So often a job is queued again after its time is over."""


@dataclass(frozen=True)
class SweepOptions:
    """One experiment at every combination of seeds and settings."""

    experiment: tyro.conf.Positional[str]
    """Name or file."""
    config: str
    seeds: str = ""
    """0..4 or 0,3,7."""
    set: Annotated[tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction] = ()
    """FIELD VALUE [VALUE ...], as often as needed."""
    name: str = ""
    """Of the sweep's folder under runs/sweeps; by default experiment and config."""
    launcher: Literal["local", "slurm", "print"] = "local"
    jobs: int = 1
    """Runs at the same time, `local` alone."""
    slurm: Slurm = field(default_factory=Slurm)


@dataclass
class Command:
    """A command as a job of `submitit`: asked to stop, it passes the request on, and the same command is queued again."""

    arguments: list[str]
    process: Any = None

    def __call__(self) -> int:
        self.process = subprocess.Popen(self.arguments)
        code = self.process.wait()
        if code == Exit.STOPPED:  # asked by another than submitit; a queue that requeues goes on with the same command
            raise RuntimeError("stopped by a signal; the same command continues")
        if code not in (Exit.FINISHED, Exit.DIVERGED):
            raise RuntimeError(f"ended with exit code {code}; what it said is above")
        return code

    def checkpoint(self) -> Any:
        """Called by `submitit` shortly before the time limit, and at a preemption."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.returncode is None:
            # This runs as a signal handler within `wait` above, which holds the lock that waiting once more would need.
            os.kill(self.process.pid, signal.SIGTERM)
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Command(self.arguments))


def launch(sweep: Sweep, options: SweepOptions, say: Callable[[str], None]) -> int:
    """Start every run; returns the exit code: that of the worst run of a local sweep.

    Raises:
        UserError: if the launcher is not there.
    """
    if options.launcher == "print":
        for line in sweep.printed():
            say(line)
        return Exit.FINISHED
    if options.launcher == "slurm":
        return _slurm(sweep, options.slurm, say)
    with ThreadPoolExecutor(options.jobs) as pool:
        codes = list(
            pool.map(
                lambda run: subprocess.run(sweep.command_of(run), check=False, stdout=sys.stderr).returncode, sweep.runs
            )
        )
    for run, code in zip(sweep.runs, codes, strict=True):
        say(f"exit {code}  {run.folder}")
    return max(codes, key=abs)


def _slurm(sweep: Sweep, slurm: Slurm, say: Callable[[str], None]) -> int:
    try:
        import submitit
    except ImportError as error:
        raise UserError("the launcher 'slurm' needs the extra of that name: pip install 'slt-jax[slurm]'") from error
    try:
        executor = submitit.SlurmExecutor(folder=sweep.folder / "slurm" / "%j", max_num_timeout=slurm.requeues)
    except RuntimeError as error:
        raise UserError(f"there is no Slurm on this machine ({error}); use --launcher print or local") from error
    asked = {
        "job_name": sweep.folder.name, "time": slurm.minutes, "cpus_per_task": slurm.cpus, "ntasks_per_node": 1,
        # Slurm looks at time limits every 30 s and may warn that much earlier: a slice of a minute would be warned as it starts.
        "signal_delay_s": 30 if slurm.minutes >= 5 else 5, "partition": slurm.partition, "mem": f"{slurm.memory_gb}GB" if slurm.memory_gb else None,
        "gpus_per_node": slurm.gpus or None, "array_parallelism": len(sweep.runs),
    }  # fmt: skip
    executor.update_parameters(**{name: value for name, value in asked.items() if value is not None})
    with executor.batch():
        jobs = [executor.submit(Command(sweep.command_of(run))) for run in sweep.runs]
    for run, job in zip(sweep.runs, jobs, strict=True):
        say(f"job {job.job_id}  {run.folder}")
    return Exit.FINISHED
