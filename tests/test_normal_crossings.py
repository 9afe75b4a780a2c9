"""Normal crossings K = w1^(2 k1) w2^(2 k2): sampled λ̂ against quadrature at finite nβ, and against λ - (m-1)/log nβ."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.driver import sample
from slt_jax.sampling.sgnht import sgnht
from slt_jax.theory import normal_crossing


@lru_cache
def crossing_loss(exponents):
    def loss_fn(params, batch):
        return jnp.broadcast_to(jnp.prod(params ** (2 * jnp.array(exponents))), batch.shape)

    return loss_fn


def by_quadrature(exponents, nbeta, localization):
    """nβ E[K] under exp(-nβ K - γ/2 |w|²), on a grid in log |w|: what a perfect sampler would report."""
    u = np.linspace(-40, 4, 2000)
    w = np.exp(u)
    energy = nbeta * np.multiply.outer(w ** (2 * exponents[0]), w ** (2 * exponents[1]))
    log_density = -energy - localization / 2 * np.add.outer(w**2, w**2) + np.add.outer(u, u)
    density = np.exp(log_density - log_density.max())
    return float((energy * density).sum() / density.sum())


# exponents, nβ, γ, step of the thermostat (h² times the curvature at the edge of the prior below 4), sampling steps.
# λ - (m-1)/log nβ is the start of an expansion whose next term is of order 1/log² nβ for m > 1 and of order
# nβ^(-(λ' - λ)) for m = 1, λ' the next candidate: large for exponents (3, 2) and the like at any nβ that can be sampled,
# so such crossings are left out. The prior's width decides the constant; the quadrature shows that it is small here.
CROSSINGS = [
    ((1, 0), 1e4, 1.0, 3e-3, 30_000),
    ((2, 0), 1e4, 1.0, 3e-3, 30_000),
    ((3, 0), 1e4, 1.0, 3e-3, 30_000),
    ((1, 1), 1e4, 4.0, 3e-3, 30_000),
    ((2, 2), 1e4, 4.0, 2e-3, 30_000),
    ((3, 3), 1e5, 4.0, 1e-3, 60_000),
    pytest.param((2, 1), 1e5, 1.0, 2.5e-4, 200_000, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("exponents", "nbeta", "localization", "step_size", "num_steps"), CROSSINGS)
def test_estimates_agree_with_quadrature_and_with_the_asymptotic_value(
    exponents, nbeta, localization, step_size, num_steps
):
    posterior = LocalPosterior(crossing_loss(exponents), jnp.zeros(1), jnp.zeros(2), nbeta, localization)
    samples = sample(
        jax.random.key(0), posterior, sgnht(None), step_size=step_size, num_chains=256, num_draws=num_steps // 100,
        num_burnin=num_steps // 10, thinning=100, baseline=0.0, layout="vmap",
    )  # fmt: skip
    estimate = slt_jax.llc(samples)
    quadrature = by_quadrature(exponents, nbeta, localization)
    assert estimate.std_error < 0.02 * quadrature
    assert estimate.rhat < 1.05
    assert abs(estimate.mean - quadrature) < 4 * estimate.std_error
    exact = normal_crossing([k for k in exponents if k])
    asymptotic = float(exact.learning_coefficient) - (exact.multiplicity - 1) / np.log(nbeta)
    assert abs(estimate.mean - asymptotic) < max(2 * estimate.std_error, 0.05 * asymptotic)
