"""What a run on Slurm survives: cancelled, killed, requeued, preempted, out of time; each must end with the same bits.

    scripts/one_node_slurm.sh start     # or any cluster; then export the line it prints
    python scripts/slurm_interruptions.py [--steps 1500000] [--folder runs/slurm-interruptions]

Prints a table: what happened, how often the run was started, and whether its results are those of an undisturbed run.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from slt_lab.overview import state_of
from slt_lab.provenance import read_starts
from slt_lab.results import read_results

ROOT = Path(__file__).resolve().parent.parent
FILE = str(ROOT / "tests" / "data" / "line.py")


def sweep(folder: Path, steps: int, minutes: int = 10, partition: str = "main") -> str:
    """Submit the run in `folder` through the launcher; returns the job's number."""
    command = [
        sys.executable, "-m", "slt_lab", "sweep", FILE, "--config", "tiny", "--seeds", "0", "--set", "num_steps", str(steps),
        "--name", folder.name, "--launcher", "slurm", "--slurm.minutes", str(minutes), "--slurm.cpus", "1",
        "--slurm.partition", partition,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=folder.parents[2], env=_environment(), capture_output=True, text=True, check=True
    )
    return done.stdout.split()[1]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}


def run_of(folder: Path) -> Path:
    """The folder of the sweep's one run."""
    return next(path.parent for path in folder.glob("*/config.json"))


def wait(what: str, condition: Callable[[], bool], seconds: float = 900) -> None:
    """Until `condition()`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"gave up after {seconds:.0f} s: {what}")
        time.sleep(0.5)


def is_training(folder: Path) -> bool:
    """Whether the run is at work, and some way into its training."""
    runs = list(folder.glob("*/config.json"))
    return (
        bool(runs) and state_of(runs[0].parent).state == "at work" and "training" in state_of(runs[0].parent).progress
    )


def is_finished(folder: Path) -> bool:
    return any((run.parent / "report.html").exists() for run in folder.glob("*/config.json"))


def pid_of(folder: Path) -> int:
    return int(read_starts(run_of(folder))[-1]["pid"])


def is_gone(job: str) -> bool:
    queue = subprocess.run(["squeue", "-h", "-j", job.split("_")[0]], capture_output=True, text=True, check=False)
    return not queue.stdout.strip()


def cancelled(folder: Path, steps: int) -> None:
    job = sweep(folder, steps)
    wait("training", lambda: is_training(folder))
    subprocess.run(["scancel", job], check=True)
    wait("the job to be gone", lambda: is_gone(job))
    sweep(folder, steps)


def killed(folder: Path, steps: int) -> None:
    job = sweep(folder, steps)
    wait("training", lambda: is_training(folder))
    os.kill(pid_of(folder), 9)
    wait("the job to be gone", lambda: is_gone(job))
    sweep(folder, steps)


def requeued(folder: Path, steps: int) -> None:
    job = sweep(folder, steps)
    wait("training", lambda: is_training(folder))
    subprocess.run(["scontrol", "requeue", job], check=True)


def preempted(folder: Path, steps: int) -> None:
    sweep(folder, steps)
    wait("training", lambda: is_training(folder))
    cores = str(os.cpu_count())
    subprocess.run(
        ["sbatch", "-p", "urgent", "-c", cores, "-t", "2", "-o", "/dev/null", "--wrap", "sleep 5"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def out_of_time(folder: Path, steps: int) -> None:
    sweep(folder, 4 * steps, minutes=1)


EVENTS = {
    "scancel, the same command": cancelled,
    "kill -9, the same command": killed,
    "scontrol requeue": requeued,
    "preempted by a higher partition": preempted,
    "time limit of one minute": out_of_time,
}


def undisturbed(folder: Path, steps: int) -> Path:
    """The same run by hand, without Slurm."""
    arguments = ["--config", "tiny", "--seeds", "0", "--num-steps", str(steps), "--folder", str(folder)]
    subprocess.run(
        [sys.executable, "-m", "slt_lab", FILE, *arguments],
        env=_environment(),
        check=True,
        capture_output=True,
        cwd=folder.parent,
    )
    return folder


def main() -> None:
    """Let everything happen, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_500_000, help="of training; long enough to be met in it")
    parser.add_argument("--folder", type=Path, default=Path("runs/slurm-interruptions"))
    parser.add_argument("--events", nargs="+", choices=list(EVENTS), default=list(EVENTS))
    arguments = parser.parse_args()
    root = arguments.folder.absolute()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    print(f"{'what happened':34}{'starts':>7}{'seconds':>9}  results of an undisturbed run", flush=True)
    for number, name in enumerate(arguments.events):
        happen = EVENTS[name]
        place = root / f"{number}"  # apart, so that none takes the training of another over
        folder = place / "runs" / "sweeps" / "one"
        folder.parent.mkdir(parents=True)
        began = time.monotonic()
        happen(folder, arguments.steps)
        wait("the run to finish", lambda folder=folder: is_finished(folder))
        seconds = time.monotonic() - began
        steps = 4 * arguments.steps if happen is out_of_time else arguments.steps
        (place / "reference").mkdir()
        reference = undisturbed(place / "reference" / "run", steps)
        same = read_results(run_of(folder)).identical(read_results(reference))
        print(
            f"{name:34}{len(read_starts(run_of(folder))):7}{seconds:9.0f}  {'the same bits' if same else 'OTHER NUMBERS'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
