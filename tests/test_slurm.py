"""A sweep on Slurm: an array of three seeds on a cluster of one node, started for the test; skipped where there is no Slurm."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from slt_lab.overview import state_of

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "scripts" / "one_node_slurm.sh"
FILE = str(ROOT / "tests" / "data" / "line.py")

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="there is no slurmctld"),
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="a one-node Slurm is started as root"),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The environment of a running cluster."""
    if "SLURM_CONF" in os.environ:
        yield dict(os.environ)
        return
    folder = str(tmp_path_factory.mktemp("slurm"))
    ports = {"SLURMCTLD_PORT": "27817", "SLURMD_PORT": "27818"}  # beside one that somebody has started by hand
    started = subprocess.run(
        [str(CLUSTER), "start", folder], capture_output=True, text=True, check=True, env={**os.environ, **ports}
    )
    yield {**os.environ, "SLURM_CONF": started.stdout.strip().split("=", 1)[1]}
    subprocess.run([str(CLUSTER), "stop", folder], check=True)


def test_an_array_of_three_seeds(cluster, tmp_path):
    command = [sys.executable, "-m", "slt_lab", "sweep", FILE, "--config", "tiny", "--seeds", "0..2", "--name", "three"]
    options = ["--launcher", "slurm", "--slurm.minutes", "10", "--slurm.cpus", "1"]
    environment = {**cluster, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    said = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.count("job ") == 3
    folder = tmp_path / "runs" / "sweeps" / "three"
    runs = [folder / f"seeds={seed}" for seed in range(3)]
    end = time.monotonic() + 600
    while not all((run / "report.html").exists() and state_of(run).state == "finished" for run in runs):
        assert time.monotonic() < end, [state_of(run) for run in runs] + [
            path.read_text() for path in folder.rglob("*.err")
        ]
        time.sleep(1)
    done = subprocess.run(
        [sys.executable, "-m", "slt_lab", "report", str(folder)], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    page = Path(tmp_path / done.stdout.strip()).read_text()
    assert "3 of 3 runs have results" in page
