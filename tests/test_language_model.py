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


def plain_loss(model, params, tokens):
    """Next-token loss with the padding left out by hand, differentiated by JAX alone."""
    log_probs = jax.nn.log_softmax(model.apply({"params": params}, tokens))
    kept = tokens[:, 1:] >= 0
    chosen = jnp.take_along_axis(log_probs[:, :-1], jnp.where(kept, tokens[:, 1:], 0)[..., None], axis=2)[..., 0]
    return jnp.sum(jnp.where(kept, -chosen, 0.0), axis=1) / kept.sum(axis=1)


def padded(model, lengths, padding):
    tokens = tokens_for(model, batch=len(lengths))
    return jnp.where(jnp.arange(model.context)[None] < jnp.asarray(lengths)[:, None], tokens, padding)


@pytest.mark.parametrize("padding", [-1, -2, -100])
def test_padding_counts_in_neither_pass(model, padding):
    """The hand-written backward pass is the gradient of the loss: JAX's own of a plain one, and a finite difference."""
    params, tokens = random_params(model), padded(model, [12, 7, 2], padding)
    weights = jnp.asarray([0.5, -2.0, 1.0])
    loss_fn = lm.next_token_loss(model)

    @jax.jit
    def total(params):
        return weights @ loss_fn(params, {"tokens": tokens})

    np.testing.assert_allclose(loss_fn(params, {"tokens": tokens}), plain_loss(model, params, tokens), rtol=1e-4)
    gradient = jax.grad(total)(params)
    expected = jax.jit(jax.grad(lambda params: weights @ plain_loss(model, params, tokens)))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5), gradient, expected)
    direction = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params)
    moved = [total(jax.tree.map(lambda p, d, h=h: p + h * d, params, direction)) for h in (1e-3, -1e-3)]
    slope = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, gradient, direction)))
    np.testing.assert_allclose((moved[0] - moved[1]) / 2e-3, slope, rtol=2e-2, atol=1e-3)


def test_a_padded_sequence_has_the_loss_of_the_short_one(model):
    params, tokens = random_params(model), tokens_for(model)
    losses = lm.next_token_loss(model)
    cut = losses(params, {"tokens": tokens[:, :7]})
    np.testing.assert_allclose(losses(params, {"tokens": padded(model, [7] * 5, -1)}), cut, rtol=1e-5)
    by_token = lm.token_losses(model, params, padded(model, [7] * 5, -1))
    assert np.isnan(by_token[:, 6:]).all()  # an average over them would be a wrong number
    np.testing.assert_allclose(by_token[:, :6].mean(axis=1), cut, rtol=1e-5)


@pytest.mark.parametrize(
    ("place", "token", "message"),
    [
        ((1, 3), 17, r"tokens holds 17 at \[1, 3\]; the vocabulary has 17 tokens, 0 to 16"),
        ((0, 0), 1000, r"tokens holds 1000 at \[0, 0\]"),
        ((2, 4), -1, r"padding \(a negative number\) before a token, at \[2, 4\]; put padding after"),
    ],
)
def test_sequences_that_cannot_be_read_are_refused_where_known_and_not_a_number_elsewhere(model, place, token, message):
    params, tokens = random_params(model), tokens_for(model).at[place].set(token)
    loss_fn = lm.next_token_loss(model)
    for call in (lm.token_losses, lm.attention_patterns):
        with pytest.raises(ValueError, match=message):
            call(model, params, tokens)
    with pytest.raises(ValueError, match=message):
        jax.grad(lambda params: loss_fn(params, {"tokens": tokens}).sum())(params)
    losses, pullback = jax.vjp(jax.jit(lambda params, tokens: loss_fn(params, {"tokens": tokens})), params, tokens)
    assert np.flatnonzero(np.isnan(losses)).tolist() == [place[0]]
    gradient = pullback(jnp.ones(5))[0]
    assert np.isnan(gradient["unembedding"]).any()


def test_a_sequence_with_nothing_to_predict_has_no_loss(model):
    losses = jax.jit(lm.next_token_loss(model))(random_params(model), {"tokens": padded(model, [12, 1], -1)})
    assert np.isfinite(losses).tolist() == [True, False]
