"""How often 95% intervals of covariances hold the exact value, over repeats of sampling at about 100 effective draws.

    python scripts/covariance_coverage.py
    python scripts/covariance_coverage.py --repeats 200 --draws 120 --thinning 2

Linear regression with six examples, sampled by SGLD (Leimkuhler & Matthews, exact on Gaussians): covariances of two observables
with six losses and of the losses with each other, 33 in all, against their closed form. Beside the jackknife's intervals stand
naive ones, 1.96 standard deviations of the products over √draws, which count correlated draws as independent. All repeats are
chains of one run.
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import slt_jax
from slt_jax.estimators.covariances import trace_covariance
from slt_jax.sampling.statistics import example_moments

REFERENCE = Path(__file__).parent.parent / "tests" / "data" / "estimators.json"
CHAINS = 4


def regression_loss(w: jax.Array, batch: dict) -> jax.Array:
    return 0.5 * (batch["x"] @ w - batch["y"]) ** 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--draws", type=int, default=250, help="per chain, four chains a repeat")
    parser.add_argument("--thinning", type=int, default=1)
    parser.add_argument("--step-size", type=float, default=0.15)
    options = parser.parse_args()
    case = json.loads(REFERENCE.read_text())["gaussian_linear_regression"]
    data, center = {"x": jnp.array(case["X"]), "y": jnp.array(case["y"])}, jnp.array(case["center"])
    posterior = slt_jax.LocalPosterior(regression_loss, data, center, case["nbeta"], case["gamma"])
    a = jnp.array(case["a"])
    losses = example_moments(regression_loss, data, center).y
    samples = slt_jax.sample(
        jax.random.key(0), posterior, slt_jax.sgld(None, integrator="leimkuhler_matthews"), step_size=options.step_size,
        num_chains=CHAINS * options.repeats, num_draws=options.draws, num_burnin=200, thinning=options.thinning,
        observables={"phi": lambda w: jnp.stack([a @ w, 0.5 * w @ w]), "losses": losses}, layout="vmap",
    )  # fmt: skip
    exact = np.concatenate([[case["cov_phi1_losses"], case["cov_phi2_losses"]], case["cov_losses"]])
    once = np.concatenate([np.ones((2, 6), bool), np.triu(np.ones((6, 6), bool))])
    hits, naive_hits, draws, scores = [], [], [], []
    for repeat in range(options.repeats):
        chains = slice(CHAINS * repeat, CHAINS * (repeat + 1))
        y = samples.observables["losses"][chains].astype(np.float64)
        x = np.concatenate([samples.observables["phi"][chains], y], axis=-1)
        found = trace_covariance(x, y)
        low, high = found.interval(0.95)
        hits.append(((low <= exact) & (exact <= high))[once])
        products = (x - x.mean((0, 1)))[..., :, None] * (y - y.mean((0, 1)))[..., None, :]
        naive = 1.96 * products.std(axis=(0, 1)) / np.sqrt(products.shape[0] * products.shape[1])
        naive_hits.append((np.abs(found.value - exact) <= naive)[once])
        draws.append(1 / found.ess[once])
        scores.append(((found.value - exact) / found.std_error)[once])
    coverage, naive_coverage = np.mean(hits, axis=0), np.mean(naive_hits, axis=0)
    print(f"{options.repeats} repeats of {CHAINS} chains x {options.draws} draws, {once.sum()} covariances each")
    print(
        f"effective draws of the products (harmonic means): {1 / np.mean(draws, axis=0).max():.0f} to {1 / np.mean(draws, axis=0).min():.0f}, in all {1 / np.mean(draws):.0f}"
    )
    print(f"coverage of 95% intervals: {coverage.mean():.3f}; least {coverage.min():.3f}, most {coverage.max():.3f}")
    print(
        f"coverage of naive intervals: {naive_coverage.mean():.3f}; least {naive_coverage.min():.3f}, most {naive_coverage.max():.3f}"
    )
    enough = 1 / np.mean(draws, axis=0) >= 100
    if enough.any():
        print(
            f"of the {enough.sum()} covariances with at least 100 effective draws: {coverage[enough].mean():.3f}; "
            f"least {coverage[enough].min():.3f}, most {coverage[enough].max():.3f}"
        )
    print(f"spread of z-scores {np.std(scores):.3f} (Student's t of 15 degrees: 1.074), mean {np.mean(scores):+.3f}")


if __name__ == "__main__":
    main()
