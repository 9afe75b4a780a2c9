"""How fast samplers settle after the LayerNorm collapse: SGLD at the paper's settings beside two that use the curvature.

    python scripts/mixing_after_collapse.py RUN_FOLDER --seed 1 --step 20000
    python scripts/mixing_after_collapse.py RUN_FOLDER --step 20000 --draws sgld:9500 metric:4500 underdamped:1500

Prints mean nβ(L - L*) over windows of the sampling steps, no burn-in, mean over chains, and the seconds it took, compilation and metric
included. A sampler is level where its windows stop rising.
"""

import argparse
import dataclasses
import itertools
import os
import time
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "slt_jax" / "compiled"))

import jax

from configs.lrt_stages import Sampling
from experiments.lrt_stages import EXPERIMENT, subjects
from slt_jax.estimators.llc import llc
from slt_lab.bench import Bench
from slt_lab.cli import restore_config
from slt_lab.folder import RunFolder
from slt_lab.measures.llc import draw

EDGES = (0, 100, 300, 700, 1100, 1500, 2500, 3500, 4500, 6500, 9500)


def describe(sampling: Sampling) -> str:
    """A sampler and its settings, for a line of the table."""
    step, metric = sampling.sampler().step_size, f"rank {sampling.metric_rank}, d = {sampling.metric_damping:g}"
    return {
        "sgld": f"SGLD, ε = {step:g}",
        "metric": f"metric SGLD, ε = {step:g}, {metric}",
        "underdamped": f"underdamped, h = {step:g}, {metric}",
    }[sampling.method]


def main() -> None:
    """Sample with each and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, required=True)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--draws", nargs="+", default=["sgld:1500", "metric:1500", "underdamped:1500"])
    arguments = parser.parse_args()
    folder = RunFolder.existing(arguments.run)
    subject = subjects(restore_config(EXPERIMENT, folder), folder)[arguments.seed]
    params = Bench(folder).params(subject, arguments.step)
    base = Sampling(
        num_examples=2**14, batch_size=arguments.batch_size, num_chains=arguments.chains, num_burnin=0,
        metric_rank=arguments.rank,
    )  # fmt: skip
    data = subject.posterior_data(base.num_examples)
    for method, draws in (item.split(":") for item in arguments.draws):
        sampling = dataclasses.replace(base, method=method, num_draws=int(draws))
        started = time.perf_counter()
        samples = draw(jax.random.key(0), subject, data, params, sampling)
        seconds = time.perf_counter() - started
        trace = float(samples.nbeta[0]) * samples.excess.mean(axis=0)
        print(f"{describe(sampling)}, batch {sampling.batch_size}: {seconds:.0f} s, {llc(samples).status}")
        windows = [(low, high) for low, high in itertools.pairwise(EDGES) if high <= sampling.num_draws]
        print("    steps " + " ".join(f"{f'{low}-{high}':>10}" for low, high in windows))
        print("      LLC " + " ".join(f"{trace[low:high].mean():>10.1f}" for low, high in windows), flush=True)


if __name__ == "__main__":
    main()
