"""The language model: causal to the bit, positions where they should be, heads that are slices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax.models import language_model as lm
from slt_jax.trees import num_parameters

MODELS = {
    "shortformer": lm.LanguageModel(17, 12, 16, 4, 2),
    "one_layer": lm.LanguageModel(17, 12, 16, 2, 1),
    "learned_mlp": lm.LanguageModel(17, 12, 16, 4, 3, mlp_dim=24, positions="learned"),
}


@pytest.fixture(params=MODELS, name="model")
def _model(request):
    return MODELS[request.param]


def random_params(model):
    """Parameters with no zero biases, so that nothing hides behind an initial value."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: lm.init(jax.random.key(0), model))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(0, 0.4, leaf.shape), leaf.dtype), shapes)


def tokens_for(model, batch=5):
    return jnp.asarray(np.random.default_rng(1).integers(0, model.vocab_size, (batch, model.context)))


def test_a_later_token_changes_no_earlier_logit_bit(model):
    params, tokens = random_params(model), tokens_for(model)
    apply = jax.jit(lambda tokens: model.apply({"params": params}, tokens))
    logits = np.asarray(apply(tokens))
    for position in (1, 6, 11):
        other = np.asarray(apply(tokens.at[:, position].set((tokens[:, position] + 1) % model.vocab_size)))
        np.testing.assert_array_equal(other[:, :position], logits[:, :position])
        assert (other[:, position] != logits[:, position]).any(axis=-1).all()


def test_shortformer_positions_leave_values_untouched():
    model = MODELS["shortformer"]
    params, tokens = random_params(model), tokens_for(model)
    moved = params | {"positions": params["positions"] + 1.0}
    assert (model.apply({"params": moved}, tokens) != model.apply({"params": params}, tokens)).any()
    # Without queries and keys, the values are all that is left, and the positions reach nothing.
    for block in ("block_0", "block_1"):
        for tree in (params, moved):
            attention = tree[block]["attention"]
            blind = attention | {
                "qkv": attention["qkv"].at[:, :2].set(0.0),
                "qkv_bias": attention["qkv_bias"].at[:2].set(0.0),
            }
            tree[block] = tree[block] | {"attention": blind}
    np.testing.assert_array_equal(model.apply({"params": moved}, tokens), model.apply({"params": params}, tokens))


def test_learned_positions_reach_the_values():
    model = lm.LanguageModel(17, 12, 16, 4, 1, positions="learned")
    params, tokens = random_params(model), tokens_for(model)
    ablated = lm.without_positions(params)
    assert not ablated["positions"].any()
    assert (model.apply({"params": ablated}, tokens) != model.apply({"params": params}, tokens)).any()


def test_without_positions_an_attention_layer_is_blind_to_order(model):
    if model.num_layers > 1:
        pytest.skip("causal masks let two layers tell positions apart")
    params = lm.without_positions(random_params(model))
    tokens = tokens_for(model)
    logits = model.apply({"params": params}, tokens)
    shuffled = model.apply({"params": params}, tokens[:, jnp.asarray([3, 1, 0, 2, *range(4, 12)])])
    np.testing.assert_allclose(shuffled[:, 4:], logits[:, 4:], rtol=1e-4, atol=1e-5)


def test_attention_by_hand_in_one_layer():
    model = MODELS["one_layer"]
    params, tokens = random_params(model), tokens_for(model, batch=1)
    embedded = params["embedding"][tokens[0]]

    def norm(x, scale):
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * scale["scale"][None] + scale["bias"][None]

    block = params["block_0"]
    normed = norm(embedded, block["attention_norm"])
    attention = block["attention"]
    total = embedded + attention["out_bias"][None]
    for head in range(2):
        q, k, v = (
            x @ attention["qkv"][:, i, head] + attention["qkv_bias"][i, head][None]
            for i, x in enumerate((normed + params["positions"], normed + params["positions"], normed))
        )
        scores = jnp.where(jnp.tril(jnp.ones((12, 12), bool)), q @ k.T / 8**0.5, -jnp.inf)
        pattern = jax.nn.softmax(scores)
        np.testing.assert_allclose(lm.attention_patterns(model, params, tokens)[0, 0, head], pattern, atol=1e-5)
        total = total + pattern @ v @ attention["out"][head]
    logits = norm(total, params["final_norm"]) @ params["unembedding"] + params["unembedding_bias"][None]
    np.testing.assert_allclose(model.apply({"params": params}, tokens)[0], logits, rtol=1e-3, atol=1e-4)


def test_attention_patterns_are_causal_distributions(model):
    patterns = lm.attention_patterns(model, random_params(model), tokens_for(model))
    assert patterns.shape == (model.num_layers, 5, model.num_heads, 12, 12)
    np.testing.assert_allclose(patterns.sum(-1), 1.0, rtol=1e-5)
    assert not jnp.triu(patterns, 1).any()


def test_loss_is_the_cross_entropy_of_the_next_token(model):
    params, tokens = random_params(model), tokens_for(model)
    log_probs = np.asarray(jax.nn.log_softmax(model.apply({"params": params}, tokens)))
    expected = [[-log_probs[i, t, tokens[i, t + 1]] for t in range(model.context - 1)] for i in range(len(tokens))]
    np.testing.assert_allclose(lm.token_losses(model, params, tokens), expected, rtol=1e-4, atol=1e-5)
    losses = lm.next_token_loss(model)(params, {"tokens": tokens})
    np.testing.assert_allclose(losses, np.mean(expected, axis=1), rtol=1e-4)


def test_losses_of_equal_models_are_equal_and_compile_once(model):
    again = model.clone()
    assert lm.next_token_loss(model) == lm.next_token_loss(again)
    assert hash(lm.next_token_loss(model)) == hash(lm.next_token_loss(again))
    assert lm.next_token_loss(model) != lm.next_token_loss(model.clone(vocab_size=99))


def test_a_head_is_a_slice(model):
    params, tokens = random_params(model), tokens_for(model)
    posterior = slt_jax.LocalPosterior(lm.next_token_loss(model), {"tokens": tokens}, params, 1.0, 1.0)
    layer = model.num_layers - 1
    head = slt_jax.restrict(posterior, slt_jax.by_slice(lm.head_axes(layer), 1))
    head_dim = model.embed_dim // model.num_heads
    assert num_parameters(head.center) == 4 * model.embed_dim * head_dim + 3 * head_dim
    dead = head.full_params(jax.tree.map(jnp.zeros_like, head.center))
    attention, before = (tree[f"block_{layer}"]["attention"] for tree in (dead, params))
    assert not attention["out"][1].any()
    np.testing.assert_array_equal(attention["out"][0], before["out"][0])
    assert (posterior.losses(dead, posterior.data) != posterior.losses(params, posterior.data)).all()


def test_paper_model_has_the_size_of_the_paper():
    shapes = jax.eval_shape(lambda: lm.init(jax.random.key(0), lm.PAPER))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 3_355_016  # "3.36M"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 5}, "num_layers = 5"),
        ({"num_heads": 3}, "multiple of num_heads = 3"),
        ({"positions": "rotary"}, "positions = 'rotary'"),
    ],
)
def test_settings_out_of_range(change, message):
    model = MODELS["shortformer"].clone(**change)
    with pytest.raises(ValueError, match=message):
        lm.init(jax.random.key(0), model)


def test_a_sequence_longer_than_the_context():
    model = MODELS["shortformer"]
    with pytest.raises(ValueError, match="length 13; the model's context is 12"):
        model.apply({"params": lm.init(jax.random.key(0), model)}, jnp.zeros((1, 13), jnp.int32))
