"""What the look at w* costs beside a default `estimate_llc` of the digits network, compiled anew and compiled already.

python benchmarks/look.py

Cold times are of processes of their own, one with the look and one with what a calibration needs without it: the largest
curvature, by the same compiled Hessian-vector product, and the losses at w*. Times are the
processor's, the shortest of several taken in turn: what else the machine does changes them least.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import slt_jax
from configs.digits import Network
from experiments.digits.network import cross_entropy, load_digits, train
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.center import Center, center_losses, generator, top_eigenvalue
from slt_jax.sampling.look import look

REPEATS = {"cold": 3, "warm": 7}
BATCH_SIZE = 256  # the default of estimate_llc


def digits() -> LocalPosterior:
    """The trained network of the digits experiment."""
    network = Network()
    split = load_digits(network.num_examples, 0)
    params, _ = train(jax.random.key(0), split.train, network)
    params = jax.tree.map(np.asarray, params)
    jax.clear_caches()
    nbeta = slt_jax.default_nbeta(network.num_examples)
    return LocalPosterior(cross_entropy, split.train, params, nbeta, 1.0)


def seen(posterior: LocalPosterior) -> None:
    """The look."""
    look(jax.random.key(2), posterior, BATCH_SIZE)


def needed(posterior: LocalPosterior) -> None:
    """What the step and the baseline need anyway."""
    center = Center.of(generator(jax.random.key(2), 0), posterior, BATCH_SIZE)
    start = np.random.default_rng(0).standard_normal(610).astype(np.float32)
    top_eigenvalue(lambda vector: center.derivatives(vector[None]).products[0], start, 40)
    np.asarray(center_losses(posterior))


def estimated(posterior: LocalPosterior) -> None:
    """The default estimate, its look included."""
    slt_jax.estimate_llc(jax.random.key(1), posterior.loss_fn, posterior.center, posterior.data, batch_size=BATCH_SIZE)


WORK = {"look": seen, "needed anyway": needed, "estimate_llc": estimated}


def seconds(work: Callable[[LocalPosterior], None], posterior: LocalPosterior) -> float:
    """Processor time of `work`."""
    started = time.process_time()
    work(posterior)
    return time.process_time() - started


def cold(name: str) -> float:
    """Time of `name` in a fresh process, training left out."""
    return float(subprocess.check_output([sys.executable, __file__, name]).split()[-1])


def main() -> None:
    """Print both tables, or one cold time for the name of a piece of work."""
    posterior = digits()
    if len(sys.argv) > 1:
        print(seconds(WORK[sys.argv[1]], posterior))
        return
    for work in WORK.values():
        work(posterior)
    times: dict[str, Callable[[str], float]] = {"cold": cold, "warm": lambda name: seconds(WORK[name], posterior)}
    for state, repeats in REPEATS.items():
        took = dict.fromkeys(WORK, float("inf"))
        for _ in range(repeats):
            took = {name: min(before, times[state](name)) for name, before in took.items()}
        more = took["look"] - took["needed anyway"]
        whole = took["estimate_llc"]
        print(
            f"{state}: estimate_llc {whole:.3f} s, its look {took['look']:.3f} s ({took['look'] / (whole - took['look']):.1%}), "
            f"of which a calibration needs {took['needed anyway']:.3f} s anyway: {more / (whole - more):+.1%} for the look",
            flush=True,
        )


if __name__ == "__main__":
    main()
