"""Damage of heads on language models small enough to be computed by hand: direct effect, total effect, R and Q are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.analysis.ablation import NORMS, damage_heads, redundancy, repair
from slt_jax.models.language_model import LanguageModel, init

HADAMARD = np.array([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]], float)
EMBEDDING = np.concatenate([HADAMARD, -HADAMARD])
"""Six tokens whose embeddings have mean 0 and variance 1 over the width: LayerNorm leaves them as they are, but for 1e-5."""
FREE, LAST_HELD, ALL_HELD = range(3)
RESAMPLE, MEAN = range(2)


def corrector(written=0.5, corrected=0.3):
    """Two layers, two heads, two positions: only the first position predicts, and there attention sees itself alone.

    Head 0:0 and head 0:1 together write `written` times the token; those of layer 1 together write -`corrected` times
    what LayerNorm, its scale held, lets through. A head holds two of the four dimensions, so each writes its half.
    """
    model = LanguageModel(vocab_size=6, context=2, embed_dim=4, num_heads=2, num_layers=2)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), init(jax.random.key(0), model))
    for layer in range(2):
        params[f"block_{layer}"]["attention_norm"]["scale"] = np.ones(4)
    params["final_norm"]["scale"] = np.ones(4)
    params["embedding"], params["unembedding"] = EMBEDDING, EMBEDDING.T / 2
    halves = np.eye(4).reshape(4, 2, 2)  # (E, head, size)
    for layer, size in ((0, written), (1, -corrected * (1 + written))):
        attention = params[f"block_{layer}"]["attention"]
        attention["qkv"][:, 2] = halves
        attention["out"] = size * np.moveaxis(halves, 0, 2)
    return model, jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)


TOKENS = jnp.array([[token, (token + ahead) % 6] for ahead in (0, 1) for token in range(6)])
"""Half of the time a token is followed by itself, which is what the heads of layer 0 are good for."""


def by_hand(strength, head, replaced, norms, written=0.5, corrected=0.3, layer=0):
    """The score and the loss of `corrector` in numpy, one head of a layer damaged; `head` may be None or both."""
    tokens = np.asarray(TOKENS)
    x = EMBEDDING[tokens[:, 0]]
    other = np.roll(x, 1, axis=0) if replaced == RESAMPLE else np.broadcast_to(x.mean(0), x.shape)
    mask = np.zeros(4)
    for one in () if head is None else np.atleast_1d(head):
        mask[2 * one : 2 * one + 2] = 1

    def norm(y, clean, held):
        scale = (clean if held else y).var(-1, keepdims=True)
        return (y - y.mean(-1, keepdims=True)) / np.sqrt(scale + 1e-5)

    first = norm(x, x, False)
    swapped = norm(other, other, False) if replaced == RESAMPLE else np.broadcast_to(first.mean(0), x.shape)
    clean = x + written * first
    share = mask * strength if layer == 0 else 0 * mask
    y = x + written * (first + share * (swapped - first))
    size = -corrected * (1 + written)
    normed, undamaged = norm(y, clean, norms == ALL_HELD), norm(clean, clean, False)
    gap = np.roll(undamaged, 1, axis=0) if replaced == RESAMPLE else undamaged.mean(0)[None]
    share = mask * strength if layer == 1 else 0 * mask
    z = y + size * (normed + share * (gap - undamaged))
    clean_z = clean + size * undamaged
    logits = norm(z, clean_z, norms != FREE) @ EMBEDDING.T / 2
    true = logits[np.arange(len(tokens)), tokens[:, 1]]
    return np.mean(true - logits.mean(-1)), np.mean(np.log(np.exp(logits).sum(-1)) - true)


@pytest.fixture(scope="module")
def found():
    return damage_heads(*corrector(), TOKENS)


@pytest.mark.parametrize("norms", range(3), ids=NORMS)
@pytest.mark.parametrize("layer", [0, 1])
def test_total_effects_by_hand(found, norms, layer):
    for replaced in (RESAMPLE, MEAN):
        whole, _ = by_hand(1.0, None, replaced, norms)
        for s, strength in enumerate((1.0, 0.1)):
            for head in (0, 1):
                expected = whole - by_hand(strength, head, replaced, norms, layer=layer)[0]
                assert found.total[norms, s, replaced, layer, head] == pytest.approx(expected, abs=2e-6)


def test_losses_by_hand(found):
    for replaced in (RESAMPLE, MEAN):
        for layer in (0, 1):
            clean = by_hand(1.0, None, replaced, FREE)[1]
            for head in (0, 1):
                rise = by_hand(1.0, head, replaced, FREE, layer=layer)[1] - clean
                assert found.loss_rise[replaced, layer, head] == pytest.approx(rise, abs=2e-6)
            joint = by_hand(1.0, (0, 1), replaced, FREE, layer=layer)[1] - clean
            assert found.joint_loss_rise[replaced, layer] == pytest.approx(joint, abs=2e-6)


def shares(found, norms, strength):
    """R along layer 0 alone."""
    index = (1.0, 0.1).index(strength)
    return repair(found.direct[:, :1], found.total[norms, index, :, :1], strength)


@pytest.mark.parametrize("strength", [1.0, 0.1])
def test_a_linear_corrector_repairs_its_share(strength):
    """All LayerNorms held, layer 1 takes back `corrected` of every change, at any strength."""
    found = damage_heads(*corrector(corrected=0.3), TOKENS)
    np.testing.assert_allclose(shares(found, ALL_HELD, strength), 0.3, atol=1e-4)


def test_without_a_corrector_nothing_is_repaired():
    found = damage_heads(*corrector(corrected=0.0), TOKENS)
    for norms in (LAST_HELD, ALL_HELD):
        for strength in (1.0, 0.1):
            np.testing.assert_allclose(shares(found, norms, strength), 0.0, atol=1e-4)
    assert np.abs(found.direct[:, 1]).max() < 1e-6  # heads that write nothing


def test_layer_norm_alone_repairs_a_loss_of_length():
    """Both heads of a layer damaged by their mean, which is 0: the stream gets shorter, the free final LayerNorm makes up for all of it."""
    model, params = corrector(corrected=0.0)
    joint = damage_heads(model, params, TOKENS).joint_loss_rise
    assert joint[MEAN, 0] == pytest.approx(0.0, abs=1e-5)
    assert joint[RESAMPLE, 0] > 0.05


def test_one_layer_has_nothing_behind_it():
    model = LanguageModel(vocab_size=7, context=6, embed_dim=8, num_heads=2, num_layers=1)
    params = init(jax.random.key(1), model)
    tokens = jax.random.randint(jax.random.key(2), (5, 6), 0, 7)
    found = damage_heads(model, params, tokens)
    for norms in (LAST_HELD, ALL_HELD):
        for s, strength in enumerate((1.0, 0.1)):
            np.testing.assert_allclose(found.total[norms, s], strength * found.direct, rtol=1e-3, atol=1e-6)


def test_damage_is_what_parameters_could_do():
    """A head that says the same for every sequence cannot be told from its mean: mean damage of it is no damage."""
    model = LanguageModel(vocab_size=7, context=6, embed_dim=8, num_heads=2, num_layers=2)
    params = init(jax.random.key(1), model)
    attention = params["block_0"]["attention"]
    attention["qkv"] = attention["qkv"].at[:, 2, 0].set(0.0)
    attention["qkv_bias"] = attention["qkv_bias"].at[2, 0].set(1.0)
    tokens = jax.random.randint(jax.random.key(2), (5, 6), 0, 7)
    found = damage_heads(model, params, tokens)
    assert np.abs(found.total[:, :, :, 0, 0]).max() < 1e-6
    assert np.abs(found.total[:, :, :, 0, 1]).min() > 1e-5
    # The head's bias taken out of the parameters is the mean damage of a head that writes nothing else.
    silent = jax.tree.map(jnp.array, params)
    silent["block_0"]["attention"]["out"] = silent["block_0"]["attention"]["out"].at[1].set(0.0)
    mean = damage_heads(model, silent, tokens)
    assert np.abs(mean.loss_rise[:, 0, 1]).max() < 1e-6


def test_redundancy_and_repair_of_numbers():
    rise, joint = np.array([[[1.0, 1.0], [2.0, 0.0]]]), np.array([[2.0, 2.0]])
    assert redundancy(rise, joint) == pytest.approx([0.0])  # independent heads
    assert redundancy(rise / 4, joint) == pytest.approx([0.75])  # the others make up for most of it
    direct = np.array([[1.0, 0.05], [-0.3, 0.5]])  # 0.05 is too small, -0.3 does harm
    total = np.array([[0.5, 9.0], [9.0, 0.1]])
    assert repair(direct, total, 1.0) == pytest.approx(1 - 0.6 / 1.5)
    assert repair(direct, total / 10, 0.1) == pytest.approx(1 - 0.6 / 1.5)
    assert np.isnan(repair(np.full((1, 2), -1.0), np.ones((1, 2)), 1.0))


def test_what_is_refused():
    model, params = corrector()
    with pytest.raises(ValueError, match="takes at least 2"):
        damage_heads(model, params, TOKENS[:1])
    with pytest.raises(ValueError, match="each must be in"):
        damage_heads(model, params, TOKENS, (0.0, 1.0))
