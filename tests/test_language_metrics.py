"""The metrics on models made by hand, whose heads do exactly what their names say, and on counted text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.analysis import language_metrics as metrics
from slt_jax.data.corpus_statistics import bigram_table, common_ngrams, ngram_losses
from slt_jax.models import language_model as lm

V, T = 12, 24
E = 2 * V + T  # the token, the token before it, the position
TOKEN, BEFORE, PLACE = slice(0, V), slice(V, 2 * V), slice(2 * V, E)
MODEL = lm.LanguageModel(V, T, embed_dim=2 * E, num_heads=2, num_layers=2)  # head_dim = E; half the width is idle
GAIN = 40.0


def zeros():
    shapes = jax.eval_shape(lambda: lm.init(jax.random.key(0), MODEL))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    for norm in (params["final_norm"], params["block_0"]["attention_norm"], params["block_1"]["attention_norm"]):
        norm["scale"][:] = 1.0
    params["embedding"][:, TOKEN] = np.eye(V)
    params["positions"][:, PLACE] = GAIN * np.eye(T)
    params["unembedding"][TOKEN] = GAIN * np.eye(V)
    return params


def previous_token_head(params, layer=0, head=0):
    """Queries ask for the position before, keys give their own, and the token is copied to BEFORE."""
    attention = params[f"block_{layer}"]["attention"]
    attention["qkv"][PLACE, 0, head, PLACE] = np.eye(T, k=-1)
    attention["qkv"][PLACE, 1, head, PLACE] = np.eye(T)
    attention["qkv"][TOKEN, 2, head, TOKEN] = np.eye(V)
    attention["out"][head, TOKEN, BEFORE] = np.eye(V)


def induction_head(params, layer=1, head=1):
    """Queries ask for the current token, keys give the token before them, and the token found is predicted."""
    attention = params[f"block_{layer}"]["attention"]
    attention["qkv"][TOKEN, 0, head, TOKEN] = GAIN * np.eye(V)
    attention["qkv"][BEFORE, 1, head, TOKEN] = np.eye(V)
    attention["qkv"][TOKEN, 2, head, TOKEN] = np.eye(V)
    attention["out"][head, TOKEN, TOKEN] = GAIN * np.eye(V)
    # The first token has none before it and its layer-0 head attends to itself: no key there.
    attention["qkv_bias"][0, head, E - 1] = -100.0
    attention["qkv"][PLACE.start, 1, head, E - 1] = 100.0


@pytest.fixture(scope="module")
def induction_model():
    params = zeros()
    previous_token_head(params)
    induction_head(params)
    return jax.tree.map(jnp.asarray, params)


def test_a_previous_token_head_scores_one(induction_model):
    scores = metrics.previous_token_scores(jax.random.key(0), MODEL, induction_model, num_sequences=200)
    assert scores.shape == (2, 2)
    assert scores[0, 0] == pytest.approx(1.0, abs=1e-6)
    assert max(scores[0, 1], scores[1, 0]) < 0.25  # all zero: attends evenly


def test_an_induction_head_scores_one_and_copies(induction_model):
    scores = metrics.prefix_matching_scores(jax.random.key(0), MODEL, induction_model, num_sequences=200)
    assert scores[1, 1] == pytest.approx(1.0, abs=1e-4)
    assert max(scores[0, 0], scores[0, 1], scores[1, 0]) < 0.25
    tokens = jnp.asarray([[3, 7, 1, 5, 2, 0, 7]])
    predicted = jax.nn.softmax(MODEL.apply({"params": induction_model}, tokens)[0, -1])
    assert predicted[1] > 0.99
    patterns = lm.attention_patterns(MODEL, induction_model, tokens)
    assert patterns[1, 0, 1, 6, 2] > 0.99


def test_without_its_previous_token_head_an_induction_head_finds_nothing():
    params = zeros()
    induction_head(params)
    scores = metrics.prefix_matching_scores(jax.random.key(0), MODEL, params, num_sequences=200)
    assert scores[1, 1] < 0.25


def test_prefix_sequences_hold_the_token_twice():
    """An attention pattern that marks every key equal to the query's token shows what the sequences are."""
    params = zeros()
    attention = params["block_0"]["attention"]
    attention["qkv"][TOKEN, 0, 0, TOKEN] = GAIN * np.eye(V)
    attention["qkv"][TOKEN, 1, 0, TOKEN] = np.eye(V)
    # Attends evenly to both occurrences, never to the token after the first: that is another token.
    scores = metrics.prefix_matching_scores(jax.random.key(0), MODEL, params, num_sequences=200)
    assert scores[0, 0] == pytest.approx(0.0, abs=1e-6)


def test_k_composition_of_heads_made_for_each_other(induction_model):
    scores = metrics.k_composition(induction_model)
    # W_OV copies V dimensions, all of which W_QK reads: ‖AB‖ / (‖A‖‖B‖) = √V / (√V √V), up to the key of position 0.
    assert scores[0, 1] == pytest.approx(V**-0.5, rel=1e-3)
    assert np.isnan(scores[1, 0])  # heads of zeros have no direction


def test_k_composition_against_the_full_matrices():
    model = lm.LanguageModel(7, 5, embed_dim=12, num_heads=3, num_layers=3)
    params = lm.init(jax.random.key(0), model)
    scores = metrics.k_composition(params, 0, 2)
    early, late = (params[f"block_{layer}"]["attention"] for layer in (0, 2))
    for a in range(3):
        for b in range(3):
            ov = early["qkv"][:, 2, a] @ early["out"][a]
            qk = late["qkv"][:, 0, b] @ late["qkv"][:, 1, b].T
            expected = jnp.linalg.norm(ov @ qk.T) / (jnp.linalg.norm(ov) * jnp.linalg.norm(qk))
            np.testing.assert_allclose(scores[a, b], expected, rtol=1e-4)


@pytest.fixture(scope="module")
def bigram_model():
    """One layer whose attention does nothing: the logits are a table of the current token."""
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.ones(V), V).astype(np.float32)
    params = zeros()
    normed = np.asarray(params["embedding"])
    normed = normed - normed.mean(1, keepdims=True)
    normed /= np.sqrt(normed.var(1, keepdims=True) + 1e-5)
    params["unembedding"] = (np.linalg.pinv(normed) @ np.log(table)).astype(np.float32)
    return jax.tree.map(jnp.asarray, params), jnp.asarray(table)


def test_a_bigram_model_reaches_the_floor_of_the_bigram_score(bigram_model):
    params, table = bigram_model
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, V, (100, T)))
    entropy = -np.sum(table * np.log(table), axis=1)
    score = metrics.bigram_score(jax.random.key(0), MODEL, params, tokens, table)
    at = np.asarray(jax.random.randint(jax.random.key(0), (100,), 0, T))
    np.testing.assert_allclose(score, entropy[np.asarray(tokens)[np.arange(100), at]].mean(), rtol=1e-3)
    uniform = metrics.bigram_score(
        jax.random.key(0), MODEL, zeros() | {"unembedding": jnp.zeros((2 * E, V))}, tokens, table
    )
    np.testing.assert_allclose(uniform, np.log(V), rtol=1e-5)


def test_ngram_score_is_a_ratio_of_losses(bigram_model):
    params, table = bigram_model
    rng = np.random.default_rng(2)
    tokens = np.concatenate([np.zeros((50, 1)), rng.integers(1, V, (50, T - 1))], axis=1).astype(np.int32)
    ngrams = rng.integers(1, V, (40, 3)).astype(np.int32)
    losses = -np.log(np.asarray(table))
    expected = losses[tokens[:, 2], tokens[:, 3]].mean() / losses[ngrams[:, 1], ngrams[:, 2]].mean()
    score = metrics.ngram_score(MODEL, params, jnp.asarray(tokens), jnp.asarray(ngrams))
    np.testing.assert_allclose(score, expected, rtol=1e-3)


def test_losses_by_position_and_icl(induction_model):
    tokens = jnp.asarray(np.random.default_rng(3).integers(0, V, (70, T)))  # two chunks and a rest
    losses = metrics.losses_by_position(MODEL, induction_model, tokens)
    np.testing.assert_allclose(losses, lm.token_losses(MODEL, induction_model, tokens).mean(0), rtol=1e-4)
    assert metrics.icl_positions(1024) == (50, 500)
    assert metrics.icl_positions(64) == (3, 31)
    assert metrics.icl_score(losses) == pytest.approx(float(losses[11] - losses[0]), abs=1e-5)  # positions 12 and 1
    with pytest.raises(ValueError, match="context = 3"):
        metrics.icl_positions(3)


def test_positional_ablation_is_zero_where_positions_do_nothing(bigram_model, induction_model):
    tokens = jnp.asarray(np.tile(np.random.default_rng(3).permutation(V), (8, 2)))
    assert metrics.positional_ablation(MODEL, bigram_model[0], tokens) == 0.0
    assert metrics.positional_ablation(MODEL, induction_model, tokens) > 1.0


def test_bigram_table_counts():
    table = bigram_table(np.asarray([0, 1, 0, 2, 0, 1], np.uint16), 4)
    np.testing.assert_allclose(table, [[0, 2 / 3, 1 / 3, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0.25] * 4], rtol=1e-6)


def test_common_ngrams_are_the_most_frequent_without_bos():
    stream = np.asarray([0, 5, 6, 7] * 5 + [0, 8, 9] * 3 + [9], np.uint16)
    np.testing.assert_array_equal(common_ngrams(stream, 2, 3), [[5, 6], [6, 7], [8, 9]])
    np.testing.assert_array_equal(common_ngrams(stream, 3, 10), [[5, 6, 7], [8, 9, 9]])
    with pytest.raises(ValueError, match="no 4-gram without BOS"):
        common_ngrams(stream, 4)
    with pytest.raises(ValueError, match="n = 5"):
        common_ngrams(stream, 5)


def test_ngram_losses_find_the_order_of_the_source():
    """A second-order source: bigrams know nothing, trigrams know all but the noise."""
    rng = np.random.default_rng(0)
    stream = list(rng.integers(0, 2, 2))
    for noise in rng.random(60_000):
        stream.append(stream[-2] ^ stream[-1] ^ int(noise < 0.1))
    tokens = np.asarray(stream, np.uint16)
    losses = ngram_losses(tokens[:50_000], tokens[50_000:], 2, 4)
    entropy = -(0.1 * np.log(0.1) + 0.9 * np.log(0.9))
    np.testing.assert_allclose(losses, [np.log(2), np.log(2), entropy, entropy], atol=0.02)


def test_ngram_predictors_are_distributions():
    rng = np.random.default_rng(1)
    train = rng.integers(0, 5, 60).astype(np.uint16)
    context = rng.integers(0, 6, 2)  # token 5 never occurs in the training stream
    totals = np.zeros(3)
    for target in range(6):
        totals += np.exp(-np.asarray(ngram_losses(train, np.asarray([*context, target], np.uint16), 6, 3)))
    np.testing.assert_allclose(totals, 1.0, rtol=1e-6)
