"""On an accelerator: exact values, full precision, loops of static length, and the same bits after a stop.

JAX_PLATFORMS= python -m pytest -m gpu
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax.posterior import LocalPosterior, at_center
from slt_jax.progress import Stopped
from slt_jax.sampling import driver
from slt_jax.theory import quadratic_sgld_llc

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(jax.default_backend() == "cpu", reason="there is no accelerator; see the head of this file"),
]
KEY = jax.random.key(0)
CURVATURES = [1.0, 0.5, 0.1]


def quadratic(params, batch):
    return jnp.broadcast_to(0.5 * jnp.sum(jnp.array(CURVATURES) * params**2), batch.shape)


def wide_loss(params, batch):
    return jnp.sum((batch["x"] @ params - batch["y"]) ** 2, axis=-1)


def wide():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(512, 256)).astype(np.float32), rng.normal(size=(256, 64)).astype(np.float32)
    return LocalPosterior(wide_loss, {"x": x, "y": x @ w + 0.1}, w, 100.0, 1.0)


def test_the_llc_of_a_quadratic_is_exact():
    posterior = LocalPosterior(quadratic, jnp.zeros(2), jnp.zeros(3), 100.0, 10.0)
    samples = slt_jax.sample(
        KEY, posterior, slt_jax.sgld(None), step_size=1e-2, num_chains=64, num_draws=4000, num_burnin=800
    )
    estimate = slt_jax.llc(samples)
    exact = quadratic_sgld_llc(CURVATURES, 100.0, 10.0, 1e-2)
    assert abs(estimate.mean - exact) < 4 * estimate.std_error
    assert estimate.std_error < 0.03 * exact


def test_losses_are_those_of_float32_products():
    posterior = wide()
    samples = slt_jax.sample(
        KEY,
        posterior,
        slt_jax.sgld(None),
        step_size=1e-12,
        num_chains=1,
        num_draws=1,
        baseline="full",
        inspection=False,
    )
    x, w, y = (np.asarray(leaf, np.float64) for leaf in (posterior.data["x"], posterior.center, posterior.data["y"]))
    exact = ((x @ w - y) ** 2).sum(axis=1).mean()
    assert float(samples.center_loss[0, 0]) == pytest.approx(exact, rel=1e-5)  # TF32 is off by 1e-3 here


def test_checkpoints_together_are_checkpoints_alone():
    posterior = wide()
    centers = jnp.stack([jnp.asarray(posterior.center) + 0.01 * shift for shift in range(3)])
    options = {"step_size": 1e-6, "num_chains": 2, "num_draws": 64}
    together = slt_jax.sample_checkpoints(KEY, posterior, centers, slt_jax.sgld(32), **options)
    for samples, center in zip(together, centers, strict=True):
        alone = slt_jax.sample(KEY, at_center(posterior, center), slt_jax.sgld(32), **options)
        np.testing.assert_allclose(samples.loss, alone.loss, rtol=1e-3)


def test_uneven_chains_use_every_device(monkeypatch):
    used, start = [], driver._start

    def watched(*arguments):
        chains = start(*arguments)
        used.append({shard.device for shard in chains.step.addressable_shards})
        return chains

    monkeypatch.setattr(driver, "_start", watched)
    count = 2 * jax.device_count() + 1
    samples = slt_jax.sample(KEY, wide(), slt_jax.sgld(32), step_size=1e-6, num_chains=count, num_draws=8)
    assert samples.loss.shape == (count, 8)
    assert used == [set(jax.devices())]


def test_a_stopped_run_continues_to_the_same_bits(tmp_path):
    def draw(path, should_stop):
        return slt_jax.sample(
            KEY,
            wide(),
            slt_jax.sgld(32),
            step_size=1e-6,
            num_chains=4,
            num_draws=128,
            state_path=path,
            should_stop=should_stop,
        )

    whole = draw(None, lambda: False)
    with pytest.raises(Stopped):
        draw(tmp_path / "state.npz", lambda: True)
    np.testing.assert_array_equal(draw(tmp_path / "state.npz", lambda: False).loss, whole.loss)
