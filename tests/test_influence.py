"""Influence on the digits network: predictions exact where the loss is quadratic, scores on what is known, and the tiny run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.influence import CONFIGS, tiny
from experiments.influence import EXPERIMENT
from experiments.influence.measures import choose, damped_influence
from experiments.influence.scores import datamodelling_score, mean_rank_correlation, rank_correlation, reliability
from slt_jax.theory.gaussian import linear_regression_losses, local_gaussian
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.subjects.digits import cross_entropy, digits_subject, retrain


@pytest.fixture(scope="module")
def regression():
    """Inputs, targets, the minimum and the eigenbasis of the Hessian of ½(x·w - y)²."""
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(40, 3)), generator.normal(size=40)
    center = np.linalg.lstsq(inputs, targets, rcond=None)[0]
    return inputs, targets, center, np.linalg.eigh(inputs.T @ inputs / 40)


def gradients(inputs, targets, center, axes):
    return (inputs * (inputs @ center - targets)[:, None]) @ axes


def test_the_classical_influence_is_leaving_out_to_first_order(regression):
    inputs, targets, center, (curvatures, axes) = regression
    asked, answers = inputs[:5] + 0.3, targets[:5]
    predicted = damped_influence(
        curvatures, gradients(asked, answers, center, axes), gradients(inputs, targets, center, axes), 0.0
    )
    weight = 1e-5  # of an example that is taken away, per unit: the derivative by finite difference
    for i in (0, 7):
        less = np.ones(40)
        less[i] -= weight
        moved = np.linalg.solve(inputs.T * less @ inputs, inputs.T * less @ targets)
        change = (0.5 * (asked @ moved - answers) ** 2 - 0.5 * (asked @ center - answers) ** 2) / weight
        np.testing.assert_allclose(predicted[:, i], change, rtol=1e-3, atol=1e-6)


def test_the_bayesian_influence_of_a_quadratic_is_the_classical_one_with_damping(regression):
    """(nβ/n) Cov(φ, l_i) has, beside the product of gradients, a term of order 1/nβ: small here."""
    inputs, targets, center, (curvatures, axes) = regression
    nbeta, localization = 1e6, 1e5
    losses = linear_regression_losses(inputs, targets)
    posterior, _ = local_gaussian(losses, center, nbeta, localization)
    bayesian = nbeta / 40 * posterior.covariances(losses, losses)
    turned = gradients(inputs, targets, center, axes)
    np.testing.assert_allclose(
        bayesian, damped_influence(curvatures, turned, turned, localization / nbeta), rtol=1e-3, atol=1e-6
    )


def test_an_indefinite_hessian_has_no_classical_influence():
    assert np.isnan(damped_influence(np.array([-1.0, 2.0]), np.ones((3, 2)), np.ones((4, 2)), 0.5)).all()


def test_what_is_left_out_is_not_seen():
    network = tiny().network
    subject = digits_subject(network, 0)
    weights = jnp.ones((1, network.num_examples)).at[0, 3].set(0.0)
    other = {**subject.train, "label": subject.train["label"].at[3].set((subject.train["label"][3] + 1) % 10)}
    keys = jax.random.split(jax.random.key(0), 1)
    same = [retrain(keys, weights, data, network) for data in (subject.train, other)]
    jax.tree.map(np.testing.assert_array_equal, *same)
    whole = retrain(keys, jnp.ones_like(weights), subject.train, network)
    losses = [
        cross_entropy(jax.tree.map(lambda leaf: leaf[0], params), subject.train)[3] for params in (same[0], whole)
    ]
    assert losses[0] > losses[1]


def test_scores_of_what_is_known():
    generator = np.random.default_rng(1)
    truth = generator.normal(size=(30, 1, 6)) + 0.01 * generator.normal(size=(30, 8, 6))
    mean = truth.mean(axis=1)
    assert rank_correlation(mean, truth).value == pytest.approx(1)
    assert rank_correlation(-(mean**3), truth).value == pytest.approx(-1)
    chance = rank_correlation(generator.normal(size=(30, 6)), truth)
    assert abs(chance.value) < 3 * chance.std_error
    assert 0.03 < chance.std_error < 0.2  # 6 queries of 30 ranks: about 1/sqrt(29·6) = 0.08
    assert reliability(truth) > 0.99
    assert np.isnan(mean_rank_correlation(np.full((3, 1), np.nan), np.ones((3, 1))))


def test_reliability_is_what_a_perfect_prediction_reaches():
    generator = np.random.default_rng(2)
    signal = generator.normal(size=(2000, 1, 3))
    noisy = signal + 2.0 * generator.normal(size=(2000, 4, 3))
    reached = mean_rank_correlation(signal[:, 0], noisy.mean(axis=1))
    assert reliability(noisy) == pytest.approx(reached, abs=0.03)


def test_a_linear_world_has_a_perfect_datamodelling_score():
    generator = np.random.default_rng(3)
    effects, member = generator.normal(size=(2, 50)), generator.random((20, 50)) < 0.5
    truth = np.repeat(((1.0 - member) @ effects.T + 5.0)[:, None], 2, axis=1)
    assert datamodelling_score(effects, member, truth).value == pytest.approx(1)


def test_half_of_the_left_out_have_the_highest_losses():
    losses = np.arange(20.0)
    chosen = choose(losses, 6, 0)
    assert chosen[:3].tolist() == [19, 18, 17]
    assert len(set(chosen.tolist())) == 6


def test_a_tiny_run_reports(tmp_path):
    folder = RunFolder.open("influence", "tiny", tiny(), tmp_path / "tiny")
    assert EXPERIMENT.compute(tiny(), folder) == []
    results = folder.read_results()
    assert results.loss_without.shape == (1, 4, 2, 4)
    assert np.isfinite(results.bayesian).all()
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["predictions"][0]["name"] == "Bayesian"
    assert (folder.path / "report.html").read_text().count("data:image/png;base64,") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_left_out": 31}, "there are 30 training examples"), ({"subset_share": 0.999}, "smaller than all the data")],
)
def test_what_cannot_be_is_refused(changes, message):
    from dataclasses import replace

    with pytest.raises(UserError, match=message):
        EXPERIMENT.check(replace(tiny(), retraining=replace(tiny().retraining, **changes)))
    EXPERIMENT.check(CONFIGS["demo"]())
