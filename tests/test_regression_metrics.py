"""Metrics of the regression transformer on models whose answer is known, and the predictors they are measured against."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.analysis import regression_metrics as metrics
from slt_jax.data.in_context_regression import (
    dmmse_predictions,
    ridge_predictions,
    sample_sequences,
    sample_tasks,
)
from slt_jax.models.regression_transformer import RegressionTransformer, predictions, tokens

MODEL = RegressionTransformer(task_dim=3, num_examples=5, width=16, num_heads=2, num_layers=2, hidden=8)


@pytest.fixture(scope="module")
def batch():
    return sample_sequences(jax.random.key(0), 64, task_dim=3, num_examples=5)


@pytest.fixture(scope="module")
def params(batch):
    return MODEL.init(jax.random.key(1), tokens(batch))["params"]


def test_a_model_that_answers_zero(batch, params):
    silent = params | {"unembedding": jax.tree.map(jnp.zeros_like, params["unembedding"])}
    found = metrics.behaviour(MODEL, silent, batch)
    assert float(found["zero_prediction"]) == 0
    np.testing.assert_allclose(found["loss"], jnp.mean(batch["y"] ** 2), rtol=1e-5)
    np.testing.assert_allclose(found["distance_to_ridge"], jnp.mean(ridge_predictions(batch) ** 2), rtol=1e-5)
    task_mean = jnp.asarray([1.0, 0.0, -2.0])
    prior = metrics.behaviour(MODEL, silent, batch, task_mean=task_mean)["task_prior"]
    np.testing.assert_allclose(prior, jnp.mean((batch["x"] @ task_mean) ** 2), rtol=1e-5)


def test_behaviour_is_what_its_words_say(batch, params):
    found = metrics.behaviour(MODEL, params, batch)
    predicted = np.asarray(predictions(MODEL, params, batch))
    errors = (predicted - np.asarray(batch["y"])) ** 2
    np.testing.assert_allclose(found["loss_token"], errors.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(found["task_prior"], found["zero_prediction"], rtol=1e-6)
    np.testing.assert_allclose(
        metrics.icl_score(found["loss_token"]), errors[:, -1].mean() - errors[:, 0].mean(), rtol=1e-3
    )
    scaled = metrics.out_of_distribution(MODEL, params, batch, 5.0)
    np.testing.assert_allclose(scaled["icl_score"], metrics.icl_score(found["loss_token"]) / 5, rtol=1e-4)


def test_attention_of_a_uniform_head(batch, params):
    # With queries of zero every visible key gets the same weight.
    def silence(path, leaf):
        is_qkv = any(getattr(key, "key", None) == "qkv" for key in path)
        return leaf.at[:, 0].set(0.0) if is_qkv else leaf

    uniform = jax.tree_util.tree_map_with_path(silence, params)
    found = metrics.attention(MODEL, uniform, batch)
    np.testing.assert_allclose(found["entropy"], 1.0, rtol=1e-5)
    np.testing.assert_allclose(found["variability"], 0.0, atol=1e-6)
    # Query j looks j/2 tokens back on average, j = 0..9.
    np.testing.assert_allclose(found["distance"], 2.25, rtol=1e-5)


def test_attention_of_heads_as_initialised(batch, params):
    found = metrics.attention(MODEL, params, batch)
    assert all(value.shape == (2, 2) for value in found.values())
    assert float(found["entropy"].max()) < 1
    assert float(found["variability"].min()) > 0


def test_embedding_spectra_are_shares(params):
    spectra = metrics.embedding_spectra(params)
    assert spectra["token"].shape == (4,)
    assert spectra["position"].shape == (10,)
    for name, table in (("token", params["token_embedding"]), ("position", params["position_embedding"])):
        gram = np.asarray(table) @ np.asarray(table).T
        np.testing.assert_allclose(spectra[name], np.linalg.eigvalsh(gram)[::-1] / np.trace(gram), atol=1e-6)


def test_norms_and_unembedding(params):
    scale = jnp.where(jnp.arange(16) < 4, 0.05, -2.0)
    changed = params | {"final_norm": params["final_norm"] | {"scale": scale}}
    assert float(metrics.norm_collapse(changed)["final_norm"]) == pytest.approx(0.25)
    assert float(metrics.norm_means(changed)["final_norm"]) == pytest.approx((4 * 0.05 + 12 * 2) / 16)
    assert set(metrics.norm_collapse(params)) == {
        "block_0/attention_norm", "block_0/mlp_norm", "block_1/attention_norm", "block_1/mlp_norm", "final_norm",
    }  # fmt: skip
    kernel = params["unembedding"]["kernel"][:, 0]
    np.testing.assert_allclose(metrics.effective_unembedding(changed), kernel * scale, rtol=1e-6)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])
    np.testing.assert_allclose(metrics.weight_norm(params), np.linalg.norm(flat), rtol=1e-5)


def test_ridge_is_the_penalised_least_squares_of_the_pairs_before(batch):
    x, y = np.asarray(batch["x"][7]), np.asarray(batch["y"][7])
    for k in range(5):
        weights = np.linalg.solve(x[:k].T @ x[:k] + 0.125 * np.eye(3), x[:k].T @ y[:k])
        assert float(ridge_predictions(batch)[7, k]) == pytest.approx(float(x[k] @ weights), abs=1e-3)


def test_ridge_calls_no_lapack(batch):
    """Two batched LAPACK calls in one program block each other on two cores."""
    assert "lapack" not in jax.jit(ridge_predictions).lower(batch).as_text()


def test_dmmse_is_the_posterior_mean_over_the_tasks(batch):
    tasks = sample_tasks(jax.random.key(2), 6, task_dim=3)
    found = dmmse_predictions(batch, tasks, noise_variance=0.5)
    x, y, t = np.asarray(batch["x"][3], float), np.asarray(batch["y"][3], float), np.asarray(tasks, float)
    for k in range(5):
        log_weights = np.asarray([-np.sum((y[:k] - x[:k] @ one) ** 2) / (2 * 0.5) for one in t])
        weights = np.exp(log_weights - log_weights.max())
        expected = x[k] @ (weights @ t / weights.sum())
        assert float(found[3, k]) == pytest.approx(float(expected), abs=1e-4)


def test_dmmse_is_the_better_predictor_on_its_own_tasks_and_approaches_ridge_for_many():
    few, many = (sample_tasks(jax.random.key(3), count, task_dim=3) for count in (4, 4096))
    own = sample_sequences(jax.random.key(4), 2000, task_dim=3, num_examples=6, tasks=few)
    loss = {
        "dmmse": jnp.mean((dmmse_predictions(own, few) - own["y"]) ** 2),
        "ridge": jnp.mean((ridge_predictions(own) - own["y"]) ** 2),
    }
    assert float(loss["dmmse"]) < 0.6 * float(loss["ridge"])
    fresh = sample_sequences(jax.random.key(5), 500, task_dim=3, num_examples=3, noise_variance=1.0)
    gap = jnp.mean((dmmse_predictions(fresh, many, 1.0) - ridge_predictions(fresh, 1.0)) ** 2)
    assert float(gap) < 0.02 * float(jnp.mean(ridge_predictions(fresh, 1.0) ** 2))


def test_tasks_are_nested():
    small, large = sample_tasks(jax.random.key(6), 4), sample_tasks(jax.random.key(6), 64)
    np.testing.assert_array_equal(small, large[:4])
