"""The refined LLC: equal to the LLC for the whole model, exact for blocks, equal to a masked run for a head."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.estimators.llc import llc
from slt_jax.models import language_model as lm
from slt_jax.posterior import LocalPosterior, by_path, by_slice, restrict
from slt_jax.sampling.driver import sample, sample_restrictions
from slt_jax.sampling.sgld import sgld
from slt_jax.theory.sgld_bias import quadratic_sgld_llc

MODEL = lm.LanguageModel(8, 8, 16, 2, 1)


@pytest.fixture(scope="module")
def posterior():
    """A random model with large weights, so that heads matter. It is at no minimum, and its "LLC" may be negative."""
    params = jax.tree.map(lambda leaf: 2.0 * leaf, lm.init(jax.random.key(0), MODEL))
    tokens = jax.random.randint(jax.random.key(1), (32, 8), 0, 8)
    return LocalPosterior(lm.next_token_loss(MODEL), {"tokens": tokens}, params, 30.0, 20.0)


def test_refined_to_the_whole_model_is_the_llc(posterior):
    settings = {"step_size": 1e-3, "num_chains": 2, "num_draws": 30}
    whole = sample(jax.random.key(2), posterior, sgld(8), **settings)
    refined = sample(jax.random.key(2), restrict(posterior, by_path("*")), sgld(8), **settings)
    assert refined.num_parameters == whole.num_parameters
    np.testing.assert_allclose(refined.excess, whole.excess, rtol=1e-4, atol=1e-6)


def test_a_restriction_to_nothing_is_refused(posterior):
    with pytest.raises(ValueError, match="restriction takes no parameters; it must select at least one array"):
        restrict(posterior, by_path())
    with pytest.raises(ValueError, match="matches no parameter; there are: block_0/attention/out"):
        restrict(posterior, by_slice(lm.head_axes(3), 0))
    with pytest.raises(ValueError, match=r"restriction index 2 is outside 0\.\.1"):
        restrict(posterior, by_slice(lm.head_axes(0), 2))


def test_blocks_of_a_quadratic_have_their_exact_value():
    """Four heads of three weights and a bias the loss needs too: each alone, the exact value of SGLD at this step size."""
    curvature = jnp.asarray([[0.2, 0.5, 0.1], [3.0, 1.0, 2.0], [0.0, 0.0, 4.0], [5.0, 5.0, 5.0]])
    center = {"heads": jnp.zeros((4, 3)), "bias": jnp.zeros(2)}

    def loss(params, batch):
        value = jnp.sum(curvature * params["heads"] ** 2) / 2 + jnp.sum(params["bias"] ** 2)
        return jnp.broadcast_to(value, batch["x"].shape)

    quadratic = LocalPosterior(loss, {"x": jnp.zeros(4)}, center, 50.0, 1.0)
    samples = sample_restrictions(
        jax.random.key(0), quadratic, by_slice({"heads": 0}, jnp.arange(4)), sgld(None), step_size=4e-3, num_chains=4,
        num_draws=5000, num_burnin=500,
    )  # fmt: skip
    for block, found in zip(np.asarray(curvature), map(llc, samples), strict=True):
        exact = quadratic_sgld_llc(block, 50.0, 1.0, 4e-3)
        assert found.std_error < 0.1 * exact
        assert abs(found.mean - exact) < 4 * found.std_error


@pytest.mark.slow
def test_a_head_is_distributed_as_under_a_mask_on_the_full_tree(posterior):
    """Sampling the slice, and sampling all weights of which the loss sees only the head: the same losses."""
    axes, head = lm.head_axes(0), 1
    mask = by_slice(axes, head).put(
        jax.tree.map(jnp.zeros_like, posterior.center),
        jax.tree.map(jnp.ones_like, by_slice(axes, head).take(posterior.center)),
    )

    def masked_loss(params, batch):
        kept = jax.tree.map(lambda m, w, c: m * w + (1 - m) * c, mask, params, posterior.center)
        return posterior.loss_fn(kept, batch)

    settings = {"step_size": 3e-2, "num_chains": 2, "num_draws": 1200, "num_burnin": 50}
    masked_posterior = dataclasses.replace(posterior, loss_fn=masked_loss)
    masked = sample(jax.random.key(3), masked_posterior, sgld(16), **settings)
    refined = sample(jax.random.key(4), restrict(posterior, by_slice(axes, head)), sgld(16), **settings)
    ours, theirs = llc(refined), llc(masked)
    assert refined.num_parameters < masked.num_parameters / 2
    assert min(ours.ess, theirs.ess) > 200
    assert abs(ours.mean - theirs.mean) < 4 * np.hypot(ours.std_error, theirs.std_error)
    # A tenth quantile of a normal has standard error 1.71 σ/√ess, and its quartiles lie 1.35 σ apart.
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9]
    spread = np.subtract(*np.quantile(masked.excess, [0.75, 0.25]))
    difference = np.quantile(refined.excess, quantiles) - np.quantile(masked.excess, quantiles)
    assert np.abs(difference).max() < 4 * 1.71 / 1.35 * spread * np.sqrt(1 / ours.ess + 1 / theirs.ess)
