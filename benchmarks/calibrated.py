"""Every kernel, preconditioner and metric, tuned by the library, beside exact values: three quadratics and a reduced-rank model.

    python benchmarks/calibrated.py                # all of it; Adam's steps are short, so it takes minutes
    python benchmarks/calibrated.py --models isotropic --draws 400

z is the distance from the exact value in standard errors; SGLD's Euler step adds up to 1.3% of its own on top of it.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path.insert(0, str(Path(__file__).parent.parent))

import slt_jax
from experiments.known_models.models import KNOWN, posterior_of
from slt_jax import CurvatureMetric, Sampler, adam, rmsprop, sgld, sgnht, underdamped

QUADRATICS = {
    "isotropic": ((1.0,) * 6, 50.0, 2.0),
    "spread": ((10.0, 3.0, 1.0, 0.3, 0.1), 100.0, 1.0),
    "stiff": ((1.0, 0.5, 0.1, 0.01, 0.0), 1000.0, 1.0),
}
REDUCED_RANK = "reduced-rank-3-2-2"
AVERAGED = sgld(None, integrator="leimkuhler_matthews")
SAMPLERS = {
    "SGLD": Sampler(sgld(None)),
    "averaged SGLD": Sampler(AVERAGED),
    "RMSProp": Sampler(sgld(None, rmsprop())),
    "Adam": Sampler(sgld(None, adam())),
    "SGNHT": Sampler(sgnht(None)),
    "underdamped": Sampler(underdamped(None)),
    "SGLD + metric": Sampler(sgld(None), CurvatureMetric()),
    "averaged SGLD + metric": Sampler(AVERAGED, CurvatureMetric()),
    "SGNHT + metric": Sampler(sgnht(None), CurvatureMetric()),
    "underdamped + metric": Sampler(underdamped(None), CurvatureMetric()),
}


def model(name: str) -> tuple[slt_jax.LocalPosterior, float]:
    """A posterior and its exact LLC."""
    if name == REDUCED_RANK:
        return posterior_of(name, 1000.0, 4.0), KNOWN[name]().exact(1000.0, 4.0)
    curvatures, nbeta, localization = QUADRATICS[name]
    h = jnp.array(curvatures)

    def loss(w: jax.Array, batch: jax.Array) -> jax.Array:
        return jnp.broadcast_to(0.5 * jnp.sum(h * w**2), batch.shape)

    exact = float(0.5 * jnp.sum(nbeta * h / (nbeta * h + localization)))
    return slt_jax.LocalPosterior(loss, jnp.zeros(2), jnp.zeros(len(h)), nbeta, localization), exact


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[*QUADRATICS, REDUCED_RANK], choices=[*QUADRATICS, REDUCED_RANK])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--chains", type=int, default=16)
    arguments = parser.parse_args()
    print(
        f"{'model':20}{'sampler':24}{'exact':>7}  {'estimate':>14}{'z':>6}{'R-hat':>7}{'gradients':>11}{'s':>6}  status"
    )
    for name in arguments.models:
        posterior, exact = model(name)
        for label, sampler in SAMPLERS.items():
            started = time.perf_counter()
            tuned = sampler.tune(jax.random.key(1), posterior)
            thinning, burnin = max(1, tuned.num_burnin // 10), 3 * tuned.num_burnin
            samples = slt_jax.sample(
                jax.random.key(0), posterior, tuned, num_chains=arguments.chains, num_draws=arguments.draws,
                num_burnin=burnin, thinning=thinning, layout="vmap",
            )  # fmt: skip
            found = slt_jax.llc(samples)
            spent = arguments.chains * (burnin + arguments.draws * thinning)
            print(
                f"{name:20}{label:24}{exact:7.3f}  {found.mean:7.3f} ± {found.std_error:.3f}"
                f"{(found.mean - exact) / found.std_error:+6.1f}{found.rhat:7.3f}{spent:11,}"
                f"{time.perf_counter() - started:6.1f}  {found.status[:60]}",
                flush=True,
            )


if __name__ == "__main__":
    main()
