"""Synthetic languages: the sequences follow their rules, and the baselines are the exact losses."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.data.sequences import MarkovChains, TriggerBigrams, chain_batches, trigger_batches

CHAINS = MarkovChains(num_symbols=3, context=40)
TRIGGERS = TriggerBigrams(vocab_size=12, context=30, num_triggers=3, concentration=0.5)


@pytest.fixture(scope="module")
def chain_tokens():
    return CHAINS.sequences(jax.random.key(0), 500)


@pytest.fixture(scope="module")
def table():
    return TRIGGERS.table(jax.random.key(0))


@pytest.fixture(scope="module")
def trigger_batch(table):
    return TRIGGERS.sequences(jax.random.key(1), table, 400)


def test_chain_baselines_against_counting(chain_tokens):
    tokens = np.asarray(chain_tokens[:4])
    unigram, bigram = CHAINS.unigram_losses(jnp.asarray(tokens)), CHAINS.bigram_losses(jnp.asarray(tokens))
    for i, t in itertools.product(range(4), range(39)):
        past, following = tokens[i, : t + 1], tokens[i, t + 1]
        expected = (np.sum(past == following) + 1) / (t + 1 + 3)
        np.testing.assert_allclose(unigram[i, t], -np.log(expected), rtol=1e-5)
        successors = past[1:][past[:-1] == past[-1]]
        expected = (np.sum(successors == following) + 1) / (len(successors) + 3)
        np.testing.assert_allclose(bigram[i, t], -np.log(expected), rtol=1e-5)


def test_chain_bigram_predictor_is_bayes_optimal(chain_tokens):
    """The chain rule of a Dirichlet-multinomial: the total loss is -log of the exact marginal likelihood."""
    from scipy.special import gammaln

    task = MarkovChains(num_symbols=3, context=40, concentration=0.7)
    tokens = np.asarray(chain_tokens[:6])
    totals = np.asarray(task.bigram_losses(jnp.asarray(tokens))).sum(1)
    for row, total in zip(tokens, totals, strict=True):
        counts = np.zeros((3, 3))
        np.add.at(counts, (row[:-1], row[1:]), 1)
        a = 0.7
        log_marginal = gammaln(3 * a) - gammaln(3 * a + counts.sum(1)) + (gammaln(a + counts) - gammaln(a)).sum(1)
        np.testing.assert_allclose(total, -log_marginal.sum(), rtol=1e-5)


def test_chain_baselines_are_ordered_as_the_stages(chain_tokens):
    uniform, unigram, bigram = (
        np.mean(np.asarray(losses(chain_tokens))[:, 10:])
        for losses in (CHAINS.uniform_losses, CHAINS.unigram_losses, CHAINS.bigram_losses)
    )
    assert uniform == pytest.approx(np.log(3), rel=1e-6)
    assert bigram < unigram - 0.02 < uniform - 0.04


def test_chains_have_the_matrices_they_should():
    """Averaged over sequences, symbols are uniform and repeat as the moments of the Dirichlet say."""
    tokens = np.asarray(MarkovChains(2, 3).sequences(jax.random.key(3), 20_000))
    assert np.mean(tokens[:, 0]) == pytest.approx(0.5, abs=0.02)
    same = tokens[:, 0] == tokens[:, 1]
    # P(third = second | second = first) = E[p²]/E[p] = (1/3)/(1/2) for p uniform on (0, 1).
    assert np.mean(tokens[same][:, 2] == tokens[same][:, 1]) == pytest.approx(2 / 3, abs=0.02)


def test_triggers_are_followed_by_their_output(trigger_batch):
    assert trigger_batch.tokens.shape == (400, 30)
    for tokens, triggers, outputs in zip(*map(np.asarray, trigger_batch), strict=True):
        assert len(set(triggers)) == 3
        assert not set(triggers) & set(outputs)
        follows = dict(zip(triggers.tolist(), outputs.tolist(), strict=True))
        for current, following in itertools.pairwise(tokens.tolist()):
            assert following == follows.get(current, following)


def test_trigger_bigrams_have_the_table_where_no_trigger_is():
    task = TriggerBigrams(vocab_size=4, context=200, num_triggers=0)
    table = task.table(jax.random.key(0))
    tokens = np.asarray(task.sequences(jax.random.key(1), table, 200).tokens)
    counts = np.zeros((4, 4))
    np.add.at(counts, (tokens[:, :-1].ravel(), tokens[:, 1:].ravel()), 1)
    seen = counts.sum(1) > 1000
    np.testing.assert_allclose((counts / counts.sum(1, keepdims=True))[seen], table.bigram[seen], atol=0.03)


def test_trigger_baselines(table, trigger_batch):
    batch = trigger_batch
    bigram = np.asarray(TRIGGERS.bigram_losses(batch, table))
    induction = np.asarray(TRIGGERS.induction_losses(batch, table))
    assert bigram.shape == induction.shape == (400, 29)
    assert np.isfinite(induction).all()
    # The bigram loss is -log of a distribution over the next token for every current one.
    every = jnp.stack(jnp.meshgrid(jnp.arange(12), jnp.arange(12), indexing="ij"), -1).reshape(-1, 2)
    probabilities = jnp.exp(-TRIGGERS.bigram_losses(batch._replace(tokens=every), table))
    np.testing.assert_allclose(probabilities.reshape(12, 12).sum(1), 1.0, rtol=1e-5)
    rows, triggers, log_bigram = np.asarray(batch.tokens), np.asarray(batch.triggers), np.log(table.bigram)
    for i, t in itertools.product(range(20), range(29)):
        current, following = rows[i, t], rows[i, t + 1]
        if current in triggers[i]:
            expected = 0.0 if current in rows[i, :t] else np.log(9)
        else:
            expected = -log_bigram[current, following]
        np.testing.assert_allclose(induction[i, t], expected, rtol=1e-5, atol=1e-6)
    assert induction[:, 15:].mean() < bigram[:, 15:].mean() - 0.3


@pytest.mark.parametrize(
    ("batches", "data"),
    [(chain_batches(CHAINS, 6), None), (trigger_batches(TRIGGERS, 6), TRIGGERS.table(jax.random.key(0)))],
)
def test_batches_are_a_function_of_the_key(batches, data):
    first, again, other = (
        jax.jit(batches)(jax.random.fold_in(jax.random.key(0), step), step, data)["tokens"] for step in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape[0] == 6
    assert (first != other).any()
    assert hash(batches) == hash(type(batches)(batches.task, 6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MarkovChains(1, 10), "num_symbols = 1; it must be at least 2"),
        (lambda: MarkovChains(3, 10, 0.0), "concentration = 0.0"),
        (lambda: TriggerBigrams(8, 1), "context = 1"),
        (lambda: TriggerBigrams(8, 10, 8), "num_triggers = 8; it must be below vocab_size = 8"),
        (lambda: TriggerBigrams(8, 10, 2, -1.0), "concentration = -1.0"),
    ],
)
def test_tasks_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
