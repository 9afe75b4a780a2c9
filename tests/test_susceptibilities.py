"""Susceptibilities of heads: identities that hold for any model, classes of known sequences, and the exhibit at its tiny config."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.susceptibilities import CONFIGS, tiny
from experiments.susceptibilities import EXPERIMENT
from experiments.susceptibilities.reading import turning
from slt_jax.data.sequences import TriggerBatch, TriggerBigrams, repetition_classes
from slt_lab.folder import RunFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = RunFolder.open("susceptibilities", "tiny", tiny(), tmp_path_factory.mktemp("runs") / "tiny")
    assert EXPERIMENT.compute(tiny(), folder) == []
    return folder


@pytest.mark.slow
def test_a_tiny_run_reports(finished):
    results = finished.read_results()
    assert results.susceptibility.dims == ("checkpoint", "layer", "head", "token_class")
    assert results.susceptibility.shape == (2, 2, 2, 4)
    assert np.isfinite(results.token_susceptibility).all()
    summary = json.loads((finished.path / "summary.json").read_text())
    assert summary["diverged_chains"] == 0
    assert sum(summary["counts"].values()) == 8 * 11
    assert (finished.path / "report.html").read_text().count("data:image/png;base64,") == 3


@pytest.mark.slow
def test_weights_that_change_nothing_have_no_response(finished):
    """Σ_k n_k (L_k - L) = 0, whatever the model: equal weight on all tokens is no perturbation."""
    results = finished.read_results()
    kinds = np.asarray(results.attrs["token_classes"])
    scale = float(np.abs(results.token_susceptibility).max())
    np.testing.assert_allclose(results.token_susceptibility.mean("token"), 0, atol=1e-4 * scale)
    for number, kind in enumerate(results.token_class.values):
        if not (kinds == number).any():
            continue
        mean = results.token_susceptibility.values[..., kinds == number].mean(axis=-1)
        np.testing.assert_allclose(mean, results.susceptibility.sel(token_class=kind), atol=1e-4 * scale)


def test_classes_of_a_sequence_with_two_triggers():
    # 5 and 6 are triggers, followed by 1 and 2.
    tokens = jnp.array([[5, 1, 3, 6, 2, 5, 1, 0, 5]])
    batch = TriggerBatch(tokens, jnp.array([[5, 6]]), jnp.array([[1, 2]]))
    # of tokens 1, 3, 6, 2, 5, 1, 0, 5
    assert TriggerBigrams(8, 9, 2).token_classes(batch).tolist() == [[1, 3, 2, 1, 2, 0, 3, 2]]
    assert repetition_classes(tokens).tolist() == [[2, 2, 2, 2, 2, 0, 1, 2]]


def test_classes_agree_with_the_oracle():
    """The oracle copies without loss exactly after a trigger that was seen before."""

    language = TriggerBigrams(vocab_size=12, context=30, num_triggers=4)
    table = language.table(jax.random.key(0))
    batch = language.sequences(jax.random.key(1), table, 16)
    losses, kinds = language.induction_losses(batch, table), language.token_classes(batch)
    assert (losses[kinds == 0] == 0).all()
    np.testing.assert_allclose(losses[kinds == 1], np.log(8), rtol=1e-6)
    assert (losses[(kinds == 2) | (kinds == 3)] > 0).all()


def test_a_curve_turns_where_it_is_furthest_from_both_ends():
    steps, errors = np.array([1, 2, 3, 4]), np.full(4, 0.1)
    turn = turning(steps, np.array([0.0, -1.0, -3.0, -2.0]), errors)
    assert (turn.step, turn.value) == (3, -3.0)
    assert turn.after == pytest.approx(1 / np.hypot(0.1, 0.1))
    assert turn.sure
    assert not turning(steps, np.array([0.0, -0.1, -0.2, -0.15]), errors).sure
    assert turning(steps, np.array([0.0, 1.0, 2.0, 3.0]), errors) is None


def test_the_demo_trains_what_lm_stages_trains():
    from configs.lm_stages import demo
    from slt_lab.subjects.language_model import language_subject

    own, other = (language_subject(config, None) for config in (CONFIGS["demo"](), demo()))
    assert own.identity == other.identity
