"""Milliseconds per chain-step of slt_jax, of the bare gradient, and of two PyTorch libraries, measured in turn.

    python benchmarks/throughput.py                     every row; peers are skipped with a line if not installed
    python benchmarks/throughput.py --rounds 3 --rows transformer-32 transformer-256 --json speed.json
    make bench-peers                                    installs the peers

A chain-step is one minibatch gradient and one move of one of 10 chains; the time is that of the whole machine divided
by chains and steps. On a busy machine use `--clock cpu`: core-milliseconds, waiting for a core not counted, of which the
wall time of an idle machine is at best the share 1/cores (set OMP_NUM_THREADS=1 then, so that PyTorch's threads do not
spin while they wait for each other). The columns:

    slt_jax     `sample` with its defaults (paired baseline, gradient norm): what D more steps add to a call, so that
                compilation and the once-per-call passes (baseline, first gradients, acceptance) do not count. The
                transformer's posterior has `chunk_size=64`; `--chunk-size 0` takes every gradient in one pass
    bare        `value_and_grad` of the same loss on minibatches of the same size, same chunks, same layout of
                chains over cores, in a compiled loop that does nothing else; a minibatch is a contiguous slice
    devinterp   `devinterp.slt.sampler.sample` with SGLD and an LLC callback, its defaults otherwise
    canonical   `canonical_interp.slt.LLCEstimator`, chains under vmap and torch.compile; median step, compilation left out

Every round measures each column once, one after another, so that other work on the machine hits all alike; the table
shows medians over rounds, and ratios are medians of the rounds' ratios.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_lab.cores import usable_cores

CORES = usable_cores()
jax.config.update("jax_num_cpu_devices", CORES)  # every core a device, as `python -m experiments` sets up

from slt_jax import LocalPosterior, sample, sgld  # noqa: E402
from slt_jax.models.regression_transformer import RegressionTransformer, squared_error_loss, tokens  # noqa: E402
from slt_jax.posterior import minibatch_excess_and_gradient  # noqa: E402
from slt_jax.sampling.layout import Rows, chain_mesh, default_layout, map_chains  # noqa: E402

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
ROOT = Path(__file__).resolve().parent.parent
CHAINS, N = 10, 2048
NBETA, LOCALIZATION, STEP_SIZE = 50.0, 1.0, 1e-6


class Row(NamedTuple):
    """One line of the table: a model, a batch size, and how many steps a measurement takes for us and for a peer."""

    model: str
    batch: int
    steps: int
    peer_steps: int

    @property
    def name(self) -> str:
        return f"{self.model}-{self.batch}"


ROWS = (
    Row("linear", 32, 4000, 100),
    Row("linear", 256, 2000, 60),
    Row("linear", 1024, 1000, 30),
    Row("transformer", 32, 100, 24),
    Row("transformer", 256, 20, 8),
    Row("transformer", 1024, 6, 4),
)


def linear_losses(params: dict, batch: dict) -> jax.Array:
    """Squared error of y = W₂ W₁ x."""
    return jnp.sum((batch["x"] @ params["first"] @ params["second"] - batch["y"]) ** 2, axis=-1)


def problem(model: str, chunk_size: int | None = None) -> LocalPosterior:
    """The posterior of a row; random data of the right shapes, since values do not change the time."""
    keys = jax.random.split(jax.random.key(0), 4)
    if model == "linear":  # 16 → 32 → 16: 1,024 parameters
        params: Any = {
            "first": 0.1 * jax.random.normal(keys[0], (16, 32)),
            "second": 0.1 * jax.random.normal(keys[1], (32, 16)),
        }
        data = {"x": jax.random.normal(keys[2], (N, 16)), "y": jax.random.normal(keys[3], (N, 16))}
        return LocalPosterior(linear_losses, data, params, NBETA, LOCALIZATION)
    network = RegressionTransformer()
    data = {"x": jax.random.normal(keys[2], (N, 8, 4)), "y": jax.random.normal(keys[3], (N, 8))}
    params = network.init(keys[0], tokens(data))["params"]
    loss_fn = squared_error_loss(network)
    return LocalPosterior(loss_fn, data, params, NBETA, LOCALIZATION, chunk_size=chunk_size)


def seconds(run: Callable[[], Any], clock: str = "wall") -> float:
    """Time of `run` on `clock`, its result waited for."""
    begin = CLOCKS[clock]()
    jax.block_until_ready(run())
    return CLOCKS[clock]() - begin


def sampler_time(posterior: LocalPosterior, row: Row, clock: str) -> tuple[float, float]:
    """Milliseconds that a step adds to a call of `sample`, and the seconds of a call that makes none."""

    def call(num_burnin: int) -> Any:
        return sample(
            jax.random.key(1), posterior, sgld(row.batch), step_size=STEP_SIZE, num_chains=CHAINS,
            num_draws=row.steps, num_burnin=num_burnin,
        ).chains  # fmt: skip

    short, long = (
        seconds(lambda: call(0), clock),
        seconds(lambda: call(row.steps), clock),
    )  # one compiled program serves both
    return (long - short) / (row.steps * CHAINS) * 1e3, short - (long - short)


@partial(jax.jit, static_argnames="batch")
def bare_gradients(posterior: LocalPosterior, steps: jax.Array, batch: int) -> Any:
    """`steps` gradients per chain, each at a parameter that depends on the last, or the compiler would make only one."""

    def chain(start: jax.Array, posterior: LocalPosterior) -> Any:
        def step(index: jax.Array, carry: Any) -> Any:
            params, total = carry
            begin = (start + index * batch) % (N - batch + 1)
            minibatch = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, begin, batch), posterior.data)
            loss, _, gradient = minibatch_excess_and_gradient(replace(posterior, data=minibatch), params, None)
            return jax.tree.map(lambda w, g: w - 1e-6 * g, params, gradient), total + loss

        return jax.lax.fori_loop(0, steps, step, (posterior.center, jnp.zeros(())))

    rows = Rows(chain_mesh(CHAINS), CHAINS)
    return map_chains(chain, rows.mesh, default_layout())(jnp.arange(rows.total), posterior)


def bare_time(posterior: LocalPosterior, row: Row, clock: str) -> float:
    """Milliseconds of a bare gradient."""
    spent = seconds(lambda: bare_gradients(posterior, row.steps, row.batch), clock)
    return spent / (row.steps * CHAINS) * 1e3


class Peer:
    """Another library, answering requests from its own environment."""

    def __init__(self, name: str) -> None:
        self.name = name
        script = ROOT / "benchmarks" / "peers" / f"time_{name}.py"
        command = [ROOT / ".peers" / name / "bin" / "python", script]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._answer()

    @staticmethod
    def installed(name: str) -> bool:
        return (ROOT / ".peers" / name / ".installed").exists()

    def time(self, row: Row, clock: str) -> float:
        """Milliseconds per chain-step."""
        request = {"model": row.model, "batch": row.batch, "n": N, "chains": CHAINS, "steps": row.peer_steps}
        request |= {"clock": clock, "nbeta": NBETA, "localization": LOCALIZATION, "step_size": STEP_SIZE}
        assert self.process.stdin is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return float(self._answer())

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                f"{self.name} ended without an answer (its message is above); `make bench-peers` reinstalls it"
            )
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait()


def measure(row: Row, peers: list[Peer], rounds: int, clock: str, chunk_size: int | None) -> dict[str, Any]:
    """All columns of a row, in turn, `rounds` times."""
    posterior = problem(row.model, chunk_size)
    sampler_time(posterior, row, clock)
    bare_time(posterior, row, clock)  # compile both before the clock counts
    columns: dict[str, list[float]] = {"slt_jax": [], "bare": [], "once": []} | {peer.name: [] for peer in peers}
    for index in range(rounds):
        print(f"{row.name}: round {index + 1} of {rounds}", file=sys.stderr)
        ours, once = sampler_time(posterior, row, clock)
        columns["slt_jax"].append(ours)
        columns["once"].append(once)
        columns["bare"].append(bare_time(posterior, row, clock))
        for peer in peers:
            if peer.name != "canonical" or index == 0:  # it compiles at every call: one median of its steps must do
                columns[peer.name].append(peer.time(row, clock))
    medians = {name: statistics.median(values) for name, values in columns.items()}
    ratios = {
        name: statistics.median(a / b for a, b in zip(columns["slt_jax"], values, strict=False))
        for name, values in columns.items()
        if name not in ("slt_jax", "once")
    }
    return {"model": row.model, "batch": row.batch, "milliseconds": medians, "slt_jax over": ratios, "rounds": columns}


def startup_times(repeats: int = 5) -> dict[str, float]:
    """Seconds, the least of several, of what a user waits for before anything happens."""
    commands = {
        "import slt_jax": ["-c", "import slt_jax"],
        "python -m experiments --help": ["-m", "experiments", "--help"],
    }
    return {
        name: min(
            seconds(lambda: subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True))  # noqa: B023
            for _ in range(repeats)
        )
        for name, arguments in commands.items()
    }


def table(results: list[dict[str, Any]], peers: list[Peer]) -> str:
    """What a person reads."""
    names = ["slt_jax", "bare", *(peer.name for peer in peers)]
    head = f"{'model':12}{'batch':>6}" + "".join(f"{name:>11}" for name in names)
    head += "".join(f"{'/' + name:>13}" for name in names[1:]) + f"{'once a call':>13}"
    lines = [
        "ms per chain-step; then slt_jax's time divided by the others'; then seconds of a call beside its steps",
        "",
        head,
    ]
    for result in results:
        line = f"{result['model']:12}{result['batch']:>6}"
        line += "".join(f"{result['milliseconds'][name]:>11.4g}" for name in names)
        line += "".join(f"{result['slt_jax over'][name]:>13.3g}" for name in names[1:])
        lines.append(line + f"{result['milliseconds']['once']:>12.2f}s")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=[row.name for row in ROWS], default=[row.name for row in ROWS])
    parser.add_argument("--peers", nargs="*", choices=["devinterp", "canonical"], default=["devinterp", "canonical"])
    parser.add_argument("--chunk-size", type=int, default=64, help="of the transformer's posterior; 0: one pass")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--json", type=Path, help="write the numbers of every round to this file")
    options = parser.parse_args()
    for name in options.peers:
        if not Peer.installed(name):
            print(f"{name} is skipped: not installed; `make bench-peers` installs it")
    peers = [Peer(name) for name in options.peers if Peer.installed(name)]
    packages = {name: version(name) for name in ("jax", "jaxlib", "flax", "blackjax", "numpy")}
    machine: dict[str, Any] = {
        "python": platform.python_version(), "processor": platform.machine(), "cores": CORES,
        "devices": len(jax.devices()), "backend": jax.default_backend(), "layout": default_layout(),
        "load at start": os.getloadavg()[0],
    }  # fmt: skip
    results = [
        measure(row, peers, options.rounds, options.clock, options.chunk_size or None)
        for row in ROWS
        if row.name in options.rows
    ]
    machine["load at end"] = os.getloadavg()[0]
    startup = startup_times()
    report = {"machine": machine, "packages": packages, "peers": {p.name: p.versions for p in peers}}
    for title, values in report.items():
        print(f"{title}: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    print(
        f"{CHAINS} chains, n = {N}, {options.clock} clock, medians of {options.rounds} rounds\n\n{table(results, peers)}\n"
    )
    print("startup: " + ", ".join(f"{name} {value:.2f} s" for name, value in startup.items()))
    if options.json:
        options.json.write_text(json.dumps(report | {"rows": results, "startup": startup}, indent=1) + "\n")
    for peer in peers:
        peer.close()


if __name__ == "__main__":
    main()
