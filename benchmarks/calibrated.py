"""Every kernel, preconditioner and metric, tuned by the library, beside exact values: quadratics, a reduced-rank model, digits.

    python benchmarks/calibrated.py                # all of it; Adam's steps are short, so it takes minutes
    python benchmarks/calibrated.py --models isotropic --draws 400

z is the distance from the exact value in standard errors, z* that from what the sampler should converge to at its own step: an
Euler step of ε widens a direction of curvature a = nβh + γ, in the units of the preconditioner or metric, by 1/(1 - εa/4),

    λ̂ = ½ Σ nβhᵢ / (aᵢ(1 - εaᵢ/4)),

and an averaged gradient that lags by l steps by 1/(1 - (1 + 2l)εa/4) to first order. On the digits network the reference is NUTS
(docs/results/digits), and errors are joint; chains there have 40,000 steps each, and R-hat says where those are too few.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import slt_jax
from configs.digits import Network
from experiments.digits.network import cross_entropy, load_digits, train
from experiments.known_models.models import KNOWN, posterior_of
from slt_jax import CurvatureMetric, Sampler, adam, rmsprop, sgld, sgnht, underdamped
from slt_jax.sampling.sgld import SGLD

QUADRATICS = {
    "isotropic": ((1.0,) * 6, 50.0, 2.0),
    "spread": ((10.0, 3.0, 1.0, 0.3, 0.1), 100.0, 1.0),
    "stiff": ((1.0, 0.5, 0.1, 0.01, 0.0), 1000.0, 1.0),
}
REDUCED_RANK, DIGITS = "reduced-rank-3-2-2", "digits"
NUTS = Path(__file__).parent.parent / "docs/results/digits/summary.json"
LONGEST = {DIGITS: 40_000}  # steps of a chain, where relaxation takes longer than anybody waits
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


class Model(NamedTuple):
    """A posterior, its LLC, that value's standard error, and its curvatures nβh if it is quadratic."""

    posterior: slt_jax.LocalPosterior
    exact: float
    std_error: float = 0.0
    curvatures: np.ndarray | None = None


def digits() -> Model:
    """The network of the digits experiment, and NUTS on it."""
    network = Network()
    split = load_digits(network.num_examples, 0)
    params, losses = train(jax.random.fold_in(jax.random.key(0), 0), split.train, network)
    stored = json.loads(NUTS.read_text())
    if abs(float(losses[-1]) / stored["loss"] - 1) > 0.01:
        raise SystemExit(f"training ends at another loss, {losses[-1]}, than the network that NUTS has sampled")
    nuts = stored["samplers"]["NUTS"]
    posterior = slt_jax.LocalPosterior(cross_entropy, split.train, params, stored["nbeta"], 1.0)
    return Model(posterior, nuts["mean"], nuts["std_error"])


def model(name: str) -> Model:
    """What is sampled under `name`."""
    if name == DIGITS:
        return digits()
    if name == REDUCED_RANK:
        return Model(posterior_of(name, 1000.0, 4.0), KNOWN[name]().exact(1000.0, 4.0))
    curvatures, nbeta, localization = QUADRATICS[name]
    h = jnp.array(curvatures)

    def loss(w: jax.Array, batch: jax.Array) -> jax.Array:
        return jnp.broadcast_to(0.5 * jnp.sum(h * w**2), batch.shape)

    exact = float(0.5 * jnp.sum(nbeta * h / (nbeta * h + localization)))
    posterior = slt_jax.LocalPosterior(loss, jnp.zeros(2), jnp.zeros(len(h)), nbeta, localization)
    return Model(posterior, exact, curvatures=nbeta * np.asarray(curvatures))


def at_its_step(of: Model, tuned: slt_jax.Tuned, samples: slt_jax.Samples) -> float:
    """The LLC of a quadratic that the sampler converges to at its step; the exact one where the step adds no known bias."""
    kernel = tuned.kernel
    if of.curvatures is None or not isinstance(kernel, SGLD) or kernel.averages_noise:
        return of.exact
    stiffness = of.curvatures + float(of.posterior.localization)
    units = np.ones((1, len(stiffness)))
    if tuned.metric is not None:
        directions = np.asarray(tuned.metric.directions)
        units = (float(tuned.metric.rest) + directions**2 @ np.asarray(tuned.metric.scales - tuned.metric.rest))[None]
    elif kernel.preconditioner is not None:  # every chain has frozen its own
        units = np.asarray(jax.vmap(kernel.diagonal)(samples.chains.kernel_state))
    lag = 0.0 if kernel.preconditioner is None else kernel.preconditioner.lag
    widened = 1 / (1 - (1 + 2 * lag) * tuned.step_size * stiffness * units / 4)
    return float(0.5 * np.mean(np.sum(of.curvatures / stiffness * widened, axis=1)))


def row(name: str, of: Model, label: str, sampler: Sampler, chains: int, draws: int) -> str:
    """One line of the table."""
    started = time.perf_counter()
    tuned = sampler.tune(jax.random.key(1), of.posterior)
    thinning, burnin = max(1, tuned.num_burnin // 10), 3 * tuned.num_burnin
    if name in LONGEST:
        burnin = min(burnin, LONGEST[name] // 5)
        thinning = min(thinning, (LONGEST[name] - burnin) // draws)
    samples = slt_jax.sample(
        jax.random.key(0), of.posterior, tuned, num_chains=chains, num_draws=draws, num_burnin=burnin, thinning=thinning,
        layout="vmap" if of.posterior.n < 10 else None,
    )  # fmt: skip
    found = slt_jax.llc(samples)
    error = float(np.hypot(found.std_error, of.std_error))
    target = at_its_step(of, tuned, samples)
    return (
        f"{name:20}{label:24}{of.exact:7.3f}{target:8.3f}  {found.mean:7.3f} ± {found.std_error:.3f}"
        f"{(found.mean - of.exact) / error:+6.1f}{(found.mean - target) / error:+6.1f}{found.rhat:7.3f}"
        f"{chains * (burnin + draws * thinning):13,}{time.perf_counter() - started:7.1f}  {found.status[:50]}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*QUADRATICS, REDUCED_RANK, DIGITS]
    parser.add_argument("--models", nargs="+", default=names, choices=names)
    parser.add_argument("--samplers", nargs="+", default=[*SAMPLERS], choices=[*SAMPLERS])
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--chains", type=int, default=16)
    arguments = parser.parse_args()
    print(
        f"{'model':20}{'sampler':24}{'exact':>7}{'at step':>8}  {'estimate':>15}{'z':>6}{'z*':>6}{'R-hat':>7}"
        f"{'gradients':>13}{'s':>7}  status"
    )
    for name in arguments.models:
        of = model(name)
        chains = min(4, arguments.chains) if name == DIGITS else arguments.chains
        for label in arguments.samplers:
            print(row(name, of, label, SAMPLERS[label], chains, arguments.draws), flush=True)


if __name__ == "__main__":
    main()
