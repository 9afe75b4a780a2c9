"""What the look at w* costs beside a default `estimate_llc` of the digits network, compiled anew and compiled already.

python benchmarks/look.py
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import jax

sys.path.insert(0, str(Path(__file__).parent.parent))

import slt_jax
from configs.digits import Network
from experiments.digits.network import cross_entropy, load_digits, train
from slt_jax.sampling.look import look


def seconds(work: Callable[[], object]) -> float:
    """Wall time of `work`."""
    started = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - started


def main() -> None:
    """Train the network of the digits experiment, then time both."""
    network = Network()
    split = load_digits(network.num_examples, 0)
    params, _ = train(jax.random.key(0), split.train, network)
    nbeta = slt_jax.default_nbeta(network.num_examples)
    posterior = slt_jax.LocalPosterior(cross_entropy, split.train, params, nbeta, 1.0)

    def estimate() -> None:
        print(slt_jax.estimate_llc(jax.random.key(1), cross_entropy, params, split.train))

    for state in ("compiling", "compiled"):
        if state == "compiling":
            jax.clear_caches()
        at_w = seconds(lambda: look(jax.random.key(2), posterior).weights)
        if state == "compiling":
            jax.clear_caches()
        whole = seconds(estimate)
        print(f"{state}: look {at_w:.2f} s, estimate_llc with its look {whole:.2f} s: {at_w / (whole - at_w):.1%} more")


if __name__ == "__main__":
    main()
