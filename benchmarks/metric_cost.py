"""Milliseconds per chain-step under a curvature metric of several ranks, beside plain SGLD, measured in turn.

    python benchmarks/metric_cost.py
    python benchmarks/metric_cost.py --batch 1024 --rounds 5

On the regression transformer (51,717 parameters), two chains. A metric G = U(S - r)Uᵀ + r adds two products with U, of shape
(parameters, rank), to a step of SGLD; the time does not depend on its values, so U is random. Making a metric, 2·rank + 32
Hessian-vector products once per checkpoint, is not timed here.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

jax.config.update("jax_num_cpu_devices", 2)

from slt_jax import LocalPosterior, Metric, sample, sgld, underdamped  # noqa: E402
from slt_jax.models.regression_transformer import RegressionTransformer, squared_error_loss, tokens  # noqa: E402
from slt_jax.sampling.base import Kernel  # noqa: E402

RANKS = (16, 128, 512)
N, CHAINS = 2048, 2


def transformer_posterior() -> LocalPosterior:
    """Random data of the right shapes: values do not change the time."""
    keys = jax.random.split(jax.random.key(0), 3)
    network = RegressionTransformer()
    data = {"x": jax.random.normal(keys[0], (N, 8, 4)), "y": jax.random.normal(keys[1], (N, 8))}
    params = network.init(keys[2], tokens(data))["params"]
    return LocalPosterior(squared_error_loss(network), data, params, nbeta=50.0, localization=1.0, chunk_size=64)


def random_metric(dim: int, rank: int) -> Metric:
    """Orthonormal directions of shape (dim, rank)."""
    directions, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(rank), (dim, rank)))
    return Metric(directions, jnp.linspace(0.1, 1.0, rank), jnp.asarray(1.0))


def step_time(posterior: LocalPosterior, kernel: Kernel, metric: Metric | None, steps: int) -> float:
    """Milliseconds that a chain-step adds to a call of `sample`."""

    def call(num_burnin: int) -> float:
        started = time.perf_counter()
        samples = sample(
            jax.random.key(1), posterior, kernel, step_size=1e-4, metric=metric, num_chains=CHAINS, num_draws=steps,
            num_burnin=num_burnin,
        )  # fmt: skip
        jax.block_until_ready(samples.chains)
        return time.perf_counter() - started

    short = call(0)
    return (call(2 * steps) - short) / (2 * steps * CHAINS) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    posterior = transformer_posterior()
    dim = ravel_pytree(posterior.center)[0].size
    plain = ("SGLD", sgld(options.batch), None)
    cases = [plain]
    for rank in RANKS:
        metric = random_metric(dim, rank)
        cases.append((f"metric SGLD, rank {rank}", sgld(options.batch), metric))
        cases.append((f"underdamped, rank {rank}", underdamped(options.batch), metric))
    times: dict[str, list[float]] = {name: [] for name, _, _ in cases}
    for _, kernel, metric in cases:
        step_time(posterior, kernel, metric, 2)  # compiles
    for _ in range(options.rounds):
        for name, kernel, metric in cases:
            times[name].append(step_time(posterior, kernel, metric, options.steps))
    print(f"ms per chain-step, {dim:,} parameters, batch {options.batch}, medians of {options.rounds} rounds")
    for name, _, _ in cases:
        ratio = statistics.median(a / b for a, b in zip(times[name], times["SGLD"], strict=True))
        print(f"{name:24} {statistics.median(times[name]):8.3f}   {ratio:5.2f} x SGLD")


if __name__ == "__main__":
    main()
