"""How fast samplers settle after the LayerNorm collapse: plain SGLD at the paper's settings beside a curvature metric.

    python scripts/mixing_after_collapse.py RUN_FOLDER --seed 1 --step 20000

Prints mean nβ(L - L*) over windows of the sampling steps, no burn-in, mean over chains, and the seconds it took, compilation and metric
included.
"""

import argparse
import dataclasses
import itertools
import os
import time
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "slt_jax" / "compiled"))

import jax
import jax.numpy as jnp

from configs.lrt_stages import Sampling
from experiments.lrt_stages.measure import MODEL, draw_samples, posterior_data, stored_params
from experiments.run_folder import RunFolder
from slt_jax.estimators.llc import llc
from slt_jax.models.regression_transformer import squared_error_loss
from slt_jax.posterior import LocalPosterior

EDGES = (0, 100, 300, 700, 1100, 1500)


def main() -> None:
    """Sample with both and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, required=True)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rank", type=int, default=128)
    arguments = parser.parse_args()
    params = stored_params(RunFolder.existing(arguments.run), arguments.seed, [arguments.step])[arguments.step]
    base = Sampling(
        num_examples=2**14, batch_size=arguments.batch_size, num_chains=arguments.chains, num_draws=EDGES[-1], num_burnin=0,
        metric_rank=arguments.rank,
    )  # fmt: skip
    posterior = LocalPosterior(
        squared_error_loss(MODEL), posterior_data(base), jax.tree.map(jnp.asarray, params), base.nbeta, base.localization
    )  # fmt: skip
    windows = " ".join(f"{low:>5}-{high:<5}" for low, high in itertools.pairwise(EDGES))
    print(f"{'sampler':28} {windows}  seconds")
    for sampler in ("sgld", "metric"):
        started = time.perf_counter()
        samples = draw_samples(jax.random.key(0), posterior, dataclasses.replace(base, sampler=sampler))
        seconds = time.perf_counter() - started
        trace = float(samples.nbeta[0]) * samples.excess.mean(axis=0)
        means = " ".join(f"{trace[low:high].mean():11.1f}" for low, high in itertools.pairwise(EDGES))
        name = "SGLD" if sampler == "sgld" else f"metric, rank {base.metric_rank}, d = {base.metric_damping:g}"
        print(f"{name:28} {means}  {seconds:7.0f}  {llc(samples).status}")


if __name__ == "__main__":
    main()
