"""Training under a regime: what fails, fails as often as it should; what is measured is the plain model; uphill is uphill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.models.language_model import LanguageModel, NextTokenLoss, init
from slt_lab.folder import RunFolder
from slt_lab.subjects.language_settings import LanguageSettings, Model, Regime, Training, Triggers
from slt_lab.subjects.regimes import CHANCE, FORCE, RegimeLoss, regime_subject

MODEL = LanguageModel(vocab_size=8, context=8, embed_dim=8, num_heads=2, num_layers=2)
TOKENS = jax.random.randint(jax.random.key(0), (64, 8), 0, 8)
PARAMS = jax.tree.map(lambda leaf: 2 * leaf, init(jax.random.key(1), MODEL))


def batch(number=0, force=1.0):
    return {"tokens": TOKENS, CHANCE: jax.random.key_data(jax.random.key(number)), FORCE: jnp.asarray(force)}


def plain(params=PARAMS, tokens=TOKENS):
    return NextTokenLoss(MODEL)(params, {"tokens": tokens})


ALL = [
    Regime("dropout", head_dropout=0.3), Regime("swap", head_resampling=0.3), Regime("noise", weight_noise=0.1), Regime("up", ascent=0.3),
]  # fmt: skip


@pytest.mark.parametrize("regime", ALL, ids=lambda one: one.name)
def test_measured_or_without_force_it_is_the_plain_model(regime):
    loss = RegimeLoss(MODEL, regime)
    np.testing.assert_array_equal(loss(PARAMS, {"tokens": TOKENS}), plain())
    np.testing.assert_allclose(loss(PARAMS, batch(force=0.0)), plain(), rtol=1e-6)
    assert not np.allclose(loss(PARAMS, batch()), plain(), rtol=1e-4)
    assert not np.allclose(loss(PARAMS, batch()), loss(PARAMS, batch(1)), rtol=1e-5) or regime.ascent


def test_a_head_is_dropped_as_often_as_it_should_be():
    """One head at a time can fail in four ways with one layer of two heads: each sequence has one of four losses."""
    model = LanguageModel(vocab_size=8, context=8, embed_dim=8, num_heads=2, num_layers=1)
    params = jax.tree.map(lambda leaf: 2 * leaf, init(jax.random.key(1), model))
    rate = 0.3
    found = np.stack([RegimeLoss(model, Regime(head_dropout=rate))(params, batch(number)) for number in range(40)])

    def scaled(first, second):
        attention = params["block_0"]["attention"]
        out = attention["out"] * jnp.array([first, second])[:, None, None] / (1 - rate)
        changed = params | {"block_0": params["block_0"] | {"attention": attention | {"out": out}}}
        return np.asarray(NextTokenLoss(model)(changed, {"tokens": TOKENS}))

    for first in (0, 1):
        for second in (0, 1):
            hits = np.isclose(found, scaled(first, second)[None], rtol=1e-5, atol=1e-6).mean()
            expected = (rate if first == 0 else 1 - rate) * (rate if second == 0 else 1 - rate)
            assert abs(hits - expected) < 4 * np.sqrt(expected / found.size)


def test_a_resampled_head_says_what_it_says_in_the_sequence_before():
    """At a rate of one every head of every layer reads its own sequence and writes what the one before read."""
    model = LanguageModel(vocab_size=8, context=8, embed_dim=8, num_heads=2, num_layers=1)
    params = init(jax.random.key(1), model)
    swapped = RegimeLoss(model, Regime(head_resampling=1.0))(params, batch())
    same = jnp.broadcast_to(TOKENS[:1], TOKENS.shape)
    alike = RegimeLoss(model, Regime(head_resampling=1.0))(params, batch() | {"tokens": same})
    np.testing.assert_allclose(alike, NextTokenLoss(model)(params, {"tokens": same}), rtol=1e-5)
    assert not np.allclose(swapped, NextTokenLoss(model)(params, {"tokens": TOKENS}), rtol=1e-3)


def test_noise_has_its_size_and_the_gradient_is_that_at_the_noisy_place():
    regime = Regime(weight_noise=1e-3)
    slope = jax.grad(lambda params: jnp.mean(plain(params)))(PARAMS)
    size = np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(slope)))
    rises = [float(jnp.mean(RegimeLoss(MODEL, regime)(PARAMS, batch(number)) - plain())) for number in range(200)]
    assert np.std(rises) == pytest.approx(1e-3 * size, rel=0.25)  # to first order N(0, (σ|∇L|)²)


def test_uphill_by_its_length():
    length = 1e-3
    slope = jax.grad(lambda params: jnp.mean(plain(params)))(PARAMS)
    size = float(jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slope))))
    loss = RegimeLoss(MODEL, Regime(ascent=length))
    assert float(jnp.mean(loss(PARAMS, batch()) - plain())) == pytest.approx(length * size, rel=0.05)
    moved = jax.tree.map(lambda leaf, direction: leaf + length / size * direction, PARAMS, slope)
    there = jax.grad(lambda params: jnp.mean(plain(params)))(moved)
    found = jax.grad(lambda params: jnp.mean(loss(params, batch())))(PARAMS)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(there), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)


def test_a_subject_knows_its_regime_and_when_it_is_in_force(tmp_path):
    settings = LanguageSettings(
        data=Triggers(context=8, vocab_size=8, num_triggers=2), model=Model(embed_dim=8, num_heads=2),
        training=Training(num_steps=4, batch_size=8, checkpoint_every=2), num_evaluation_sequences=8, num_probe_sequences=8,
    )  # fmt: skip
    folder = RunFolder.open("none", "tiny", settings, tmp_path / "run")
    one, other = (
        regime_subject(settings, Regime("dropout", head_dropout=0.1, begins=2, ends=ends), folder) for ends in (3, 4)
    )
    assert one.name == "dropout_0"
    assert repr(one.identity) != repr(other.identity)
    forces = [float(one.batches(jax.random.key(0), jnp.asarray(step), one.data)[FORCE]) for step in range(4)]
    assert forces == [0.0, 0.0, 1.0, 0.0]
