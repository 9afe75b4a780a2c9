"""The small language model: an attention-only transformer whose heads can be sampled one at a time.

Setting of Hoogland et al. 2024 (arXiv 2402.02364, section 4) and Wang et al. 2024 (arXiv 2410.02984). Heads
are an axis
of every attention array, so one head is a slice: `slt_jax.by_slice(head_axes(layer), head)` restricts a
    posterior to it,
and all heads of a layer are one `vmap`.

Shapes in the bodies: B batch, T context, E embed, H heads, D head_dim, V vocabulary.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from slt_jax.inputs import check_tokens
from slt_jax.models.layers import attention_pattern, causal_attention, layer_norm
from slt_jax.typing import Batch, Params, PRNGKey

__all__ = [
    "PAPER",
    "POSITIONS",
    "LanguageModel",
    "NextTokenLoss",
    "attention_patterns",
    "head_axes",
    "init",
    "next_token_loss",
    "token_losses",
    "without_positions",
]

POSITIONS = ("shortformer", "learned")
"""Where positions enter; see `LanguageModel`."""


class HeadOutputs(nn.Module):
    """What every head has gathered, before `out` writes it; passed on as it is. A place for `nn.intercept_methods` to damage heads at."""

    def __call__(self, mixed: Float[Array, "batch context head size"]) -> Float[Array, "batch context head size"]:
        return mixed


class Attention(nn.Module):
    """Causal attention; parameters qkv (E, 3, H, D), qkv_bias (3, H, D), out (H, D, E), out_bias (E,)."""

    num_heads: int
    init_scale: float

    @nn.compact
    def __call__(
        self,
        queries_and_keys: Float[Array, "batch context embed"],
        values: Float[Array, "batch context embed"],
    ) -> Float[Array, "batch context embed"]:
        B, T, E = values.shape
        H, D = self.num_heads, E // self.num_heads
        normal = nn.initializers.normal(self.init_scale / E**0.5)
        qkv = self.param("qkv", normal, (E, 3, H, D))
        bias = self.param("qkv_bias", nn.initializers.zeros, (3, H, D))
        out = self.param("out", normal, (H, D, E))
        out_bias = self.param("out_bias", nn.initializers.zeros, (E,))

        # Flat (batch * position) rows: one matrix product is faster on CPU than a batched one.
        looked_up = _flat_dot(queries_and_keys, qkv[:, :2].reshape(E, -1), bias[:2].reshape(1, -1))
        read = _flat_dot(values, qkv[:, 2:].reshape(E, -1), bias[2:].reshape(1, -1))
        projected = jnp.concatenate([looked_up.reshape(B, T, 2, H, D), read.reshape(B, T, 1, H, D)], axis=2)
        if self.is_mutable_collection("intermediates"):
            query, key = jnp.moveaxis(projected[:, :, :2], (2, 3), (0, 2))
            self.sow("intermediates", "pattern", attention_pattern(query, key))
        mixed = HeadOutputs(name="heads")(causal_attention(projected).reshape(B, T, H, D))
        return _flat_dot(mixed.reshape(B, T, H * D), out.reshape(H * D, E), out_bias[None])


def _flat_dot(x: Array, kernel: Array, bias: Array) -> Array:
    """`x @ kernel + bias` for x (B, T, E), kernel (E, F), bias (1, F)."""
    B, T, E = x.shape
    return (x.reshape(B * T, E) @ kernel + bias).reshape(B, T, -1)


class LayerNorm(nn.Module):
    """Affine layer normalisation over the last axis, parameters `scale` and `bias`."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch context embed"]) -> Float[Array, "batch context embed"]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return layer_norm(x, scale, self.param("bias", nn.initializers.zeros, (x.shape[-1],)))


class Block(nn.Module):
    """Attention and, unless `mlp_dim` is 0, a GELU MLP; each reads the normalised stream and adds to it."""

    num_heads: int
    mlp_dim: int
    init_scale: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch context embed"],
        positions: Float[Array, "1 context embed"] | None,
    ) -> Float[Array, "batch context embed"]:
        normed = LayerNorm(name="attention_norm")(x)
        located = normed if positions is None else normed + positions
        x = x + Attention(self.num_heads, self.init_scale, name="attention")(located, normed)
        if not self.mlp_dim:
            return x
        normal = nn.initializers.normal(self.init_scale / x.shape[-1] ** 0.5)
        hidden = LayerNorm(name="mlp_norm")(x)
        hidden = jax.nn.gelu(nn.Dense(self.mlp_dim, kernel_init=normal, name="mlp_in")(hidden))
        return x + nn.Dense(x.shape[-1], kernel_init=normal, name="mlp_out")(hidden)


class LanguageModel(nn.Module):
    """A causal transformer over tokens; `apply({"params": params}, tokens) -> logits`.

    Attributes:
        vocab_size: number of tokens V.
        context: longest sequence T; positions beyond it do not exist.
        embed_dim: width E, a multiple of `num_heads`.
        num_heads: heads per layer H.
        num_layers: 1 to 4.
        mlp_dim: hidden width of the MLPs; 0 for an attention-only model.
        positions: "shortformer" adds positions to the inputs of queries and keys only, after LayerNorm, so
            that nothing but attention can carry them (Press et al. 2021, arXiv 2012.15832); "learned" adds
            them to the embedding.
        init_scale: kernels and embeddings start as N(0, init_scale² / E); biases start at 0 (as
            TransformerLens).

    Negative tokens are padding; they belong after the last token of a sequence, where causal attention hides them from all
    others. What the model says at their own places means nothing.

    Raises:
        TypeError: when called, if tokens are not integers.
        ValueError: when called, if a setting is out of range, a sequence is longer than the context, or `tokens` (where its
            numbers are known, outside `jit`) has one that is not in the vocabulary, or padding before a token.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.models.language_model import LanguageModel, init
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> model.apply({"params": init(jax.random.key(0), model)}, jnp.zeros((2, 8), jnp.int32)).shape
        (2, 8, 5)
    """

    vocab_size: int
    context: int
    embed_dim: int = 256
    num_heads: int = 8
    num_layers: int = 2
    mlp_dim: int = 0
    positions: str = "shortformer"
    init_scale: float = 0.8

    @nn.compact
    def __call__(self, tokens: Int[Array, "batch context"]) -> Float[Array, "batch context vocab"]:
        self._check(tokens.shape[1])
        check_tokens(tokens, self.vocab_size, padding=True)
        normal = nn.initializers.normal(self.init_scale / self.embed_dim**0.5)
        embedding = self.param("embedding", normal, (self.vocab_size, self.embed_dim))
        table = self.param("positions", normal, (self.context, self.embed_dim))
        positions = table[None, : tokens.shape[1]]
        x = embedding[jnp.maximum(tokens, 0)]
        if self.positions == "learned":
            x = x + positions
        for layer in range(self.num_layers):
            block = Block(self.num_heads, self.mlp_dim, self.init_scale, name=f"block_{layer}")
            x = block(x, positions if self.positions == "shortformer" else None)
        x = LayerNorm(name="final_norm")(x)
        unembedding = self.param("unembedding", normal, (self.embed_dim, self.vocab_size))
        bias = self.param("unembedding_bias", nn.initializers.zeros, (self.vocab_size,))
        return _flat_dot(x, unembedding, bias[None])

    def _check(self, length: int) -> None:
        if not 1 <= self.num_layers <= 4:
            raise ValueError(f"num_layers = {self.num_layers}; it must be 1, 2, 3 or 4")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim = {self.embed_dim} must be a multiple of num_heads = {self.num_heads}")
        if self.positions not in POSITIONS:
            raise ValueError(f"positions = '{self.positions}'; it must be one of {POSITIONS}")
        if length > self.context:
            raise ValueError(f"tokens have length {length}; the model's context is {self.context}")


PAPER = LanguageModel(vocab_size=5000, context=1024, embed_dim=256, num_heads=8, num_layers=2)
"""The two-layer model of arXiv 2402.02364, section 4: 3.36M parameters."""


def init(key: PRNGKey, model: LanguageModel) -> Params:
    """Initial parameters, a nested dict of float32 arrays.

    Raises:
        ValueError: if a setting of `model` is out of range.

    Example:
        >>> import jax
        >>> from slt_jax.models.language_model import LanguageModel, init
        >>> from slt_jax.trees import num_parameters
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> num_parameters(init(jax.random.key(0), model))
        469
    """
    tokens = jnp.zeros((1, model.context), jnp.int32)
    return jax.jit(model.init)(key, tokens)["params"]


def token_losses(model: LanguageModel, params: Params, tokens: Int[Array, "batch context"]) -> Float[Array, "batch _"]:
    """Loss of predicting each token after the first, in nats, `(batch, context - 1)`.

    NaN where that token is padding (negative), and for all of a sequence that cannot be read: one with a token outside the
    vocabulary, or with padding before a token.

    Raises:
        TypeError, ValueError: as `LanguageModel`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.models.language_model import LanguageModel, init, token_losses
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> jax.eval_shape(lambda key: token_losses(model, init(key, model), jnp.zeros((2, 8), jnp.int32)), jax.random.key(0)).shape
        (2, 7)
    """
    return jnp.where(tokens[:, 1:] < 0, jnp.nan, _padded_losses(model, params, tokens))


def _padded_losses(
    model: LanguageModel, params: Params, tokens: Int[Array, "batch context"]
) -> Float[Array, "batch _"]:
    """`token_losses` with 0 in place of NaN at padding."""
    logits: Array = model.apply({"params": params}, tokens)  # type: ignore[assignment]
    losses = _cross_entropy(logits[:, :-1], tokens[:, 1:])
    unreadable = (tokens >= model.vocab_size).any(axis=1) | ((tokens[:, :-1] < 0) & (tokens[:, 1:] >= 0)).any(axis=1)
    return losses * jnp.where(unreadable, jnp.nan, 1.0)[:, None]  # a factor, so that the gradient is NaN as well


@jax.custom_vjp
def _cross_entropy(logits: Float[Array, "*rows vocab"], target: Int[Array, "*rows"]) -> Float[Array, "*rows"]:
    """-log softmax(logits)[target], and 0 where `target` is negative.

    The backward pass is softmax less one-hot, written out: the automatic one scatters into an array of the size of the
    logits, the largest of the model.
    """
    return _cross_entropy_forward(logits, target)[0]


def _cross_entropy_forward(logits: Array, target: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    normaliser = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.take_along_axis(logits, jnp.maximum(target, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(target < 0, 0.0, normaliser - chosen), (logits, target, normaliser)


def _cross_entropy_backward(saved: tuple[Array, Array, Array], cotangent: Array) -> tuple[Array, None]:
    logits, target, normaliser = saved
    softmax = jnp.exp(logits - normaliser[..., None])
    kept = jnp.where(target < 0, 0.0, cotangent)
    return (softmax - jax.nn.one_hot(target, logits.shape[-1])) * kept[..., None], None


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


@dataclass(frozen=True)
class NextTokenLoss:
    """The `LossFn` of `next_token_loss`; equal, with equal hash, for equal models: it compiles once.

    Example:
        >>> from slt_jax.models.language_model import LanguageModel, NextTokenLoss
        >>> one, other = [NextTokenLoss(LanguageModel(vocab_size=5, context=8)) for _ in range(2)]
        >>> one == other, hash(one) == hash(other)
        (True, True)
    """

    model: LanguageModel

    def __call__(self, params: Params, batch: Batch) -> Float[Array, "batch"]:
        tokens = batch["tokens"]
        losses = _padded_losses(self.model, params, tokens)
        predicted = jnp.sum(tokens[:, 1:] >= 0, axis=-1)
        # The factor is exactly 1 without padding, and a sequence with nothing to predict is 0 · inf: not a number.
        return jnp.mean(losses, axis=-1) * (losses.shape[1] / predicted)


def next_token_loss(model: LanguageModel) -> NextTokenLoss:
    """Next-token cross-entropy in nats of `batch["tokens"]` (batch, context), the mean over each sequence.

    Negative tokens are padding, after the last token of a sequence: the mean is over what is before them, and their gradient
    is zero. A sequence that cannot be read, or has nothing to predict, has the loss NaN.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.models.language_model import LanguageModel, init, next_token_loss
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> jax.eval_shape(lambda key: next_token_loss(model)(init(key, model), {"tokens": jnp.zeros((2, 8), jnp.int32)}), jax.random.key(0)).shape
        (2,)
    """
    return NextTokenLoss(model)


def attention_patterns(
    model: LanguageModel, params: Params, tokens: Int[Array, "batch context"]
) -> Float[Array, "layer batch head query key"]:
    """Attention weights of every head; rows over `key` sum to 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.models.language_model import LanguageModel, attention_patterns, init
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> jax.eval_shape(lambda key: attention_patterns(model, init(key, model), jnp.zeros((3, 8), jnp.int32)), jax.random.key(0)).shape
        (1, 3, 2, 8, 8)
    """
    _, state = model.apply({"params": params}, tokens, mutable=["intermediates"])
    blocks = (state["intermediates"][f"block_{layer}"] for layer in range(model.num_layers))
    return jnp.stack([block["attention"]["pattern"][0] for block in blocks])


def head_axes(layer: int | str = "{layer}") -> dict[str, int]:
    """Where the heads of `layer` are: parameter path -> head axis, as `slt_jax.by_slice` takes it.

    Without a layer, as `slt_jax.by_layer_and_slice` takes it, for the heads of all layers. A head is its queries, keys, values and its part of the output; the output bias belongs to the layer.

    Example:
        >>> from slt_jax.models.language_model import head_axes
        >>> head_axes(0)
        {'block_0/attention/qkv': 2, 'block_0/attention/qkv_bias': 1, 'block_0/attention/out': 0}
    """
    attention = f"block_{layer}/attention"
    return {f"{attention}/qkv": 2, f"{attention}/qkv_bias": 1, f"{attention}/out": 0}


def without_positions(params: Params) -> Params:
    """`params` with the position table zeroed: the positional ablation of arXiv 2402.02364, section 4.3.

    Example:
        >>> import jax
        >>> from slt_jax.models.language_model import LanguageModel, init, without_positions
        >>> model = LanguageModel(vocab_size=5, context=8, embed_dim=8, num_heads=2, num_layers=1)
        >>> float(abs(without_positions(init(jax.random.key(0), model))["positions"]).max())
        0.0
    """
    return params | {"positions": jnp.zeros_like(params["positions"])}
