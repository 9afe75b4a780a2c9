"""Free energies by integration beside quadrature and beside λ log nβ - (m - 1) log log nβ, on two singular models.

    python scripts/free_energies.py

Prints the tables of docs/free-energy.md: for the normal crossing w₁²w₂² and for a deep linear network of widths 2, 2, 1 with
zero truth, both with λ known and m = 2. "Asymptote" is the formula without its constant.
"""

import argparse
from collections.abc import Callable, Sequence

import jax
import numpy as np
from scipy.optimize import brentq

import slt_jax
from slt_jax.estimators.free_energy import FreeEnergy
from slt_jax.models import singular
from slt_jax.models.singular import KnownModel
from slt_jax.posterior import LocalPosterior
from slt_jax.theory.quadrature import linear_network_posterior, normal_crossing_posterior

Exact = Callable[[float], Sequence[float]]
"""`nβ -> (F, E[L], Var(L), ...)` by quadrature, for γ = 1."""

MODELS: dict[str, tuple[KnownModel, Exact]] = {
    "normal crossing w₁²w₂²": (singular.normal_crossing((1, 1)), lambda nbeta: normal_crossing_posterior(2, 2, nbeta)),
    "linear network 2-2-1": (singular.reduced_rank(2, 2, 1), lambda nbeta: linear_network_posterior(2, 2, nbeta)),
}
NODES = np.geomspace(1e-3, 1e3, 13)
SAMPLER = slt_jax.Sampler(slt_jax.underdamped(None))


def integrate(model: KnownModel, num_draws: int = 1000) -> FreeEnergy:
    """F of `model` at `NODES` under N(0, I), the sampler tuned at each."""
    posterior = LocalPosterior(model.loss_fn, model.data, model.center, 1.0, 1.0)
    return slt_jax.free_energy(
        jax.random.key(0), posterior, SAMPLER, NODES, num_chains=24, num_draws=num_draws, thinning=20,
        num_gaussian_draws=100_000, layout="vmap",
    )  # fmt: skip


def examples_of(nbeta: float) -> float:
    """The n > e with n / log n = nβ, at which WBIC is taken; NaN for nβ below e, where there is none."""
    if nbeta <= np.e:
        return float("nan")
    return float(brentq(lambda n: n / np.log(n) - nbeta, np.e, 100 * nbeta**2))


def show(name: str, model: KnownModel, exact: Exact, found: FreeEnergy) -> None:
    """Print both tables of one model."""
    coefficient, multiplicity = float(model.coefficient.learning_coefficient), model.coefficient.multiplicity
    print(f"\n### {name}: λ = {model.coefficient.learning_coefficient}, m = {multiplicity}\n")
    print(f"Status: {found.status}. Error of the rule at the last node: {found.integration_error:.1e}.\n")
    print("| nβ | F | ± | quadrature | z | asymptote | F less asymptote |\n|---|---|---|---|---|---|---|")
    for nbeta, value, error in zip(NODES, found.value, found.std_error, strict=True):
        truth = exact(nbeta)[0]
        limit = coefficient * np.log(nbeta) - (multiplicity - 1) * np.log(np.log(nbeta)) if nbeta > 2 else np.nan
        told = f"{limit:.3f} | {truth - limit:.3f}" if np.isfinite(limit) else "- | -"
        print(f"| {nbeta:.3g} | {value:.4f} | {error:.4f} | {truth:.4f} | {(value - truth) / error:+.1f} | {told} |")
    print("\n| nβ | LLC | ± | quadrature | heat capacity | quadrature | n | WBIC | F(n) | WBIC - F(n) |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = zip(NODES, found.excess, found.excess_std_error, found.heat_capacity, strict=True)
    for nbeta, excess, error, capacity in rows:
        _, mean, variance, *_ = exact(nbeta)
        told, n = "- | - | - | -", examples_of(nbeta)
        if np.isfinite(n):
            wbic, truth = n / nbeta * excess, exact(n)[0]
            told = f"{n:,.0f} | {wbic:.2f} ± {n / nbeta * error:.2f} | {truth:.2f} | {n * mean - truth:+.2f}"
        print(
            f"| {nbeta:.3g} | {excess:.4f} | {error:.4f} | {nbeta * mean:.4f} | {capacity:.4f} | {nbeta**2 * variance:.4f} "
            f"| {told} |"
        )


def asymptotics() -> None:
    """How slowly the exact values come to λ."""
    print(
        "\n| nβ | crossing: LLC | heat capacity | F less asymptote | network: LLC | heat capacity | F less asymptote |"
    )
    print("|---|---|---|---|---|---|---|")
    for nbeta in 10.0 ** np.arange(2, 13, 2):
        cells = []
        for model, exact in MODELS.values():
            energy, mean, variance, *_ = exact(nbeta)
            coefficient, multiplicity = model.coefficient
            limit = float(coefficient) * np.log(nbeta) - (multiplicity - 1) * np.log(np.log(nbeta))
            cells += [f"{nbeta * mean:.4f}", f"{nbeta**2 * variance:.4f}", f"{energy - limit:.3f}"]
        print(f"| {nbeta:.0e} | {' | '.join(cells)} |")


def widely_applicable() -> None:
    """What WBIC misses of F(n), exactly; with the linear network 3-2-1, whose multiplicity is 1."""
    exact = {
        "crossing": MODELS["normal crossing w₁²w₂²"][1],
        "network 2-2-1": MODELS["linear network 2-2-1"][1],
        "network 3-2-1": lambda nbeta: linear_network_posterior(3, 2, nbeta),
    }
    print(f"\n| n | {' | '.join(f'{name}: WBIC | F(n) | WBIC - F(n)' for name in exact)} |")
    print("|---" * (1 + 3 * len(exact)) + "|")
    for n in 10.0 ** np.arange(2, 11, 2):
        cells = []
        for of in exact.values():
            wbic, energy = n * of(n / np.log(n))[1], of(n)[0]
            cells += [f"{wbic:.3f}", f"{energy:.3f}", f"{wbic - energy:+.3f}"]
        print(f"| {n:.0e} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-draws", type=int, default=1000)
    parser.add_argument("--exact", action="store_true", help="the tables that need no sampling alone")
    arguments = parser.parse_args()
    for name, (model, exact) in () if arguments.exact else MODELS.items():
        show(name, model, exact, integrate(model, arguments.num_draws))
    asymptotics()
    widely_applicable()


if __name__ == "__main__":
    main()
