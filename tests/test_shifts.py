"""Further training on another language: what is forgotten, how far heads move, how fast they recover, where it is known exactly."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.analysis.heads import half_life, head_movement, noisy_head, prediction_distance
from slt_jax.models.language_model import LanguageModel, NextTokenLoss, init
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.measures.shifts import Forgetting, HeadMovement, HeadRecovery
from slt_lab.streams import stream
from slt_lab.subjects.language_model import language_subject
from slt_lab.subjects.language_settings import LanguageSettings, Model, Shift, Training, Triggers
from slt_lab.subjects.shifts import other_language, other_sequences, train_on

MODEL = LanguageModel(vocab_size=8, context=8, embed_dim=8, num_heads=2, num_layers=2)


@pytest.fixture
def subject(tmp_path):
    settings = LanguageSettings(
        data=Triggers(context=8, vocab_size=8, num_triggers=2), model=Model(embed_dim=8, num_heads=2, num_layers=1),
        training=Training(num_steps=4, batch_size=16, checkpoint_every=2), num_evaluation_sequences=8, num_probe_sequences=8,
    )  # fmt: skip
    return language_subject(settings, RunFolder.open("none", "tiny", settings, tmp_path / "run"))


def test_one_step_of_sgd_by_hand(subject):
    params, shift = subject.init(), Shift(language=2, num_steps=1, optimizer="sgd", learning_rate=0.5)
    after = train_on(subject, params, shift)
    key = jax.random.fold_in(jax.random.fold_in(stream("language/shift"), 2), 0)
    batch = subject.task.batches(key, jnp.asarray(0), other_language(subject, 2))
    slope = jax.grad(lambda params: jnp.mean(NextTokenLoss(subject.model)(params, batch)))(params)
    for one, start, direction in zip(*map(jax.tree.leaves, (after, params, slope)), strict=True):
        np.testing.assert_allclose(one, start - 0.5 * direction, rtol=1e-5, atol=1e-7)


def test_forgetting_is_the_change_of_the_old_loss(subject):
    params, shift = subject.init(), Shift(num_steps=30, learning_rate=1e-2)
    found = Forgetting(shift, 64).take(subject, params)
    after, old = train_on(subject, params, shift), other_sequences(subject, 0, 64)
    losses = [float(jnp.mean(NextTokenLoss(subject.model)(one, {"tokens": old}))) for one in (params, after)]
    assert float(found["forgetting"]) == pytest.approx(losses[1] - losses[0], abs=1e-5)
    assert found["new_loss_after"] < found["new_loss_before"] - 0.05
    nothing = Forgetting(Shift(num_steps=0), 64).take(subject, params)
    assert float(nothing["forgetting"]) == 0.0
    np.testing.assert_array_equal(old, subject.task.evaluation(64))


def test_only_the_exchanged_head_counts():
    params = init(jax.random.key(0), MODEL)
    tokens = jax.random.randint(jax.random.key(1), (9, 8), 0, 8)
    after = jax.tree.map(jnp.array, params)
    after["embedding"] = after["embedding"] + 1.0  # no head's
    attention = after["block_1"]["attention"]
    attention["out"] = attention["out"].at[1].set(0.0)
    found = np.asarray(head_movement(MODEL, params, after, tokens))
    silent = jax.tree.map(jnp.array, params)
    silent["block_1"]["attention"]["out"] = silent["block_1"]["attention"]["out"].at[1].set(0.0)
    p, q = (jax.nn.log_softmax(MODEL.apply({"params": one}, tokens)) for one in (params, silent))
    expected = float(jnp.mean(jnp.sum(jnp.exp(p) * (p - q), axis=-1)))
    assert expected > 1e-4
    assert found[1, 1] == pytest.approx(expected, rel=1e-4)
    assert np.abs(found[[0, 0, 1], [0, 1, 0]]).max() < 1e-7


def test_the_distance_is_a_kullback_leibler_divergence():
    """Logits that are the unembedding's bias alone: the KL of two distributions."""
    params = jax.tree.map(jnp.zeros_like, init(jax.random.key(0), MODEL))
    first, second = np.array([0.5, 0.25, 0.25, *[1e-9] * 5]), np.full(8, 0.125)
    one, other = (params | {"unembedding_bias": jnp.log(jnp.asarray(law))} for law in (first, second))
    tokens = jnp.zeros((2, 8), jnp.int32)
    expected = np.log(8) - 1.5 * np.log(2)
    assert float(prediction_distance(MODEL, one, other, tokens)) == pytest.approx(expected, rel=1e-4)
    assert float(prediction_distance(MODEL, one, one, tokens)) == 0.0


def test_noise_is_on_one_head_and_of_its_size():
    params = init(jax.random.key(0), MODEL)
    noisy = noisy_head(jax.random.key(1), params, 1, jnp.asarray(0), 0.5)
    for name in ("qkv", "out"):
        moved = np.asarray(noisy["block_1"]["attention"][name] - params["block_1"]["attention"][name])
        axis = {"qkv": 2, "out": 0}[name]
        assert np.abs(np.take(moved, 1, axis)).max() == 0.0
        size = np.sqrt(np.mean(np.take(np.asarray(params["block_1"]["attention"][name]), 0, axis) ** 2))
        assert np.std(np.take(moved, 0, axis)) == pytest.approx(0.5 * size, rel=0.3)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), noisy["block_0"], params["block_0"]))


def test_half_lives_that_are_known():
    steps = np.array([0.0, 1.0, 2.0, 4.0, 8.0, 16.0])
    for time in (0.7, 3.0, 9.0):
        assert half_life(steps, np.exp(-steps / time)) == pytest.approx(time * np.log(2))
    assert half_life(steps, np.exp(-steps / 100)) == np.inf
    assert np.isnan(half_life(steps, -np.exp(-steps)))
    assert half_life(np.array([0.0, 2.0]), np.array([1.0, -1.0])) == pytest.approx(0.5)  # through 0: a straight line
    assert half_life(steps, np.stack([np.exp(-steps), np.exp(-steps / 2)])) == pytest.approx([np.log(2), 2 * np.log(2)])


def test_without_noise_there_is_nothing_to_recover_from(subject):
    measure = HeadRecovery(Shift(language=0), size=1e-9, num_sequences=16, looks=(0, 2))
    found = measure.take(subject, subject.init())
    assert np.abs(found["recovery_excess"]).max() < 1e-5
    moved = HeadMovement(Shift(num_steps=0), 16).take(subject, subject.init())
    assert float(moved["model_movement"]) == 0.0


def test_text_has_no_other_language(subject):
    with pytest.raises(UserError, match="takes a synthetic one"):
        train_on(replace(subject, task=replace(subject.task, identity=("text", 8))), subject.init(), Shift())
