"""What happens when a head of a language model is damaged: its direct effect, what later layers make good, what it costs.

A head's output, at strength ε, is mixed with another one: z becomes (1 - ε)z + ε z'. z' is that of another sequence (*resample*) or the mean
over sequences at each position (*mean*). The quantity followed is the logit of the true next token less the mean of all logits, which does not move
when all logits do. With the final LayerNorm's scale held at its value before the damage,

    DE_h: the fall of that logit if everything later keeps still;     TE_h: its fall if everything later is computed again;
    R = 1 - Σ TE_h / Σ DE_h   over the heads whose DE is at least a tenth of the largest.

Whether the scales of LayerNorms move is a choice: `free`, `last held`, `all held`. A LayerNorm that is held still subtracts the mean.

Source: McGrath et al. 2023, arXiv 2307.15771; Rushing & Nanda 2024, arXiv 2402.15390.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slt_jax.models.language_model import HeadOutputs, LanguageModel, LayerNorm, token_losses
from slt_jax.models.layers import NORM_EPSILON
from slt_jax.typing import Params

__all__ = ["NORMS", "REPLACEMENTS", "HeadDamage", "damage_heads", "layer_of", "redundancy", "repair"]

NORMS = ("free", "last held", "all held")
REPLACEMENTS = ("resample", "mean")
WORTH_THE_NAME = 0.1
"""Share of the largest direct effect that a head's must have to count in R."""


class HeadDamage(NamedTuple):
    """Effects of damage; means over sequences and positions, dims in brackets.

    Attributes:
        direct: DE at full strength, `(replacement, layer, head)`, in nats.
        total: TE, `(norms, strength, replacement, layer, head)`, in nats.
        loss_rise: of the loss, all recomputed, LayerNorms free, full strength, `(replacement, layer, head)`, in nats.
        joint_loss_rise: the same with all heads of a layer damaged, `(replacement, layer)`.
    """

    direct: np.ndarray
    total: np.ndarray
    loss_rise: np.ndarray
    joint_loss_rise: np.ndarray


def damage_heads(
    model: LanguageModel, params: Params, tokens: Int[Array, "batch context"], strengths: tuple[float, ...] = (1.0, 0.1)
) -> HeadDamage:
    """Damage every head, one at a time and by layers.

    Args:
        model, params: the network.
        tokens: sequences without padding, at least two: each is damaged with the head outputs of the one before.
        strengths: ε, in (0, 1].

    Raises:
        ValueError: if there are fewer than two sequences or a strength is out of range.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.analysis.ablation import damage_heads
        >>> from slt_jax.models import language_model
        >>> model = language_model.LanguageModel(vocab_size=5, context=4, embed_dim=4, num_heads=2, num_layers=1)
        >>> found = damage_heads(model, language_model.init(jax.random.key(0), model), jnp.array([[0, 1, 2, 3], [3, 0, 4, 1]]))
        >>> found.direct.shape, found.total.shape
        ((2, 1, 2), (3, 2, 2, 1, 2))
    """
    if len(tokens) < 2:
        raise ValueError(f"tokens has {len(tokens)} sequence; damage by resampling takes at least 2")
    if not all(0 < strength <= 1 for strength in strengths):
        raise ValueError(f"strengths = {strengths}; each must be in (0, 1]")
    shape = (len(REPLACEMENTS), model.num_layers, model.num_heads)
    one = np.eye(model.num_layers * model.num_heads).reshape(-1, model.num_layers, model.num_heads)
    whole = np.repeat(np.eye(model.num_layers)[:, :, None], model.num_heads, axis=2)
    direct = np.asarray(_direct(model, params, tokens)).reshape(shape)
    total = np.empty((len(NORMS), len(strengths), *shape))
    rise = np.empty(shape)
    joint = np.empty(shape[:2])
    for r, replacement in enumerate(REPLACEMENTS):
        for n, norms in enumerate(NORMS):
            for s, strength in enumerate(strengths):
                falls, _ = _damaged(model, params, tokens, jnp.asarray(strength * one, jnp.float32), norms, replacement)
                total[n, s, r] = np.asarray(falls).reshape(shape[1:])
        _, rises = _damaged(model, params, tokens, jnp.asarray(one, jnp.float32), "free", replacement)
        rise[r] = np.asarray(rises).reshape(shape[1:])
        joint[r] = _damaged(model, params, tokens, jnp.asarray(whole, jnp.float32), "free", replacement)[1]
    return HeadDamage(direct, total, rise, joint)


def repair(
    direct: Float[np.ndarray, "*more layer head"],
    total: Float[np.ndarray, "*settings layer head"],
    strength: float | np.ndarray,
) -> np.ndarray:
    """R = 1 - Σ TE / (ε Σ DE) over the heads worth the name; NaN where no head has a positive direct effect."""
    direct, total = np.broadcast_arrays(direct, total)
    kept = (direct >= WORTH_THE_NAME * direct.max((-2, -1), keepdims=True)) & (direct > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(kept, total, 0.0).sum((-2, -1)) / (strength * np.where(kept, direct, 0.0).sum((-2, -1)))
    return np.asarray(1 - share)


def redundancy(loss_rise: Float[np.ndarray, "*more layer head"], joint: Float[np.ndarray, "*more layer"]) -> np.ndarray:
    """Q = 1 - Σ_h ΔL_h / ΔL_joint, both summed over layers: 0 if the heads of a layer are independent, 1 if each can be spared."""
    return np.asarray(1 - loss_rise.sum((-2, -1)) / joint.sum(-1))


# One program for all heads: what is damaged is an array.


def layer_of(path: tuple[str, ...]) -> int:
    """The layer of a module's path: 2 of ("block_2", "attention", "heads")."""
    return int(path[0].rpartition("_")[2])


def _is_norm(context: Any) -> bool:
    return isinstance(context.module, LayerNorm) and context.method_name == "__call__"


def _is_heads(context: Any) -> bool:
    return isinstance(context.module, HeadOutputs) and context.method_name == "__call__"


def _watched(
    model: LanguageModel, params: Params, tokens: Array
) -> tuple[Array, dict[int, Array], dict[tuple[str, ...], Array]]:
    """Logits, head outputs by layer `(B, T, H, D)` and scales by LayerNorm `(B, T, 1)`, undamaged."""
    heads: dict[int, Array] = {}
    scales: dict[tuple[str, ...], Array] = {}

    def watch(following: Callable, args: tuple, kwargs: Mapping, context: Any) -> Any:
        if _is_heads(context):
            heads[layer_of(context.module.path)] = args[0]
        if _is_norm(context):
            scales[context.module.path] = jax.lax.rsqrt(jnp.var(args[0], axis=-1, keepdims=True) + NORM_EPSILON)
        return following(*args, **kwargs)

    with nn.intercept_methods(watch):
        logits = model.apply({"params": params}, tokens)
    return logits, heads, scales  # type: ignore[return-value]


def _replaced(heads: Array, replacement: str) -> Array:
    return (
        jnp.roll(heads, 1, axis=0)
        if replacement == "resample"
        else jnp.broadcast_to(heads.mean(0, keepdims=True), heads.shape)
    )


def _held(context: Any, x: Array, scale: Array) -> Array:
    """A LayerNorm whose scale is given."""
    weight, bias = (context.module.get_variable("params", name)[None, None] for name in ("scale", "bias"))
    return (x - x.mean(-1, keepdims=True)) * scale * weight + bias


def _score(logits: Array, tokens: Array) -> Array:
    """Mean over positions of the true token's logit, less the mean logit."""
    true = jnp.take_along_axis(logits[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
    return jnp.mean(true - logits[:, :-1].mean(-1))


@partial(jax.jit, static_argnames=("model", "norms", "replacement"))
def _damaged(
    model: LanguageModel, params: Params, tokens: Array, damages: Array, norms: str, replacement: str
) -> tuple[Array, Array]:
    """Falls of the score and rises of the loss for each of `damages`, strengths `(damage, layer, head)`."""
    logits, heads, scales = _watched(model, params, tokens)
    kept = {
        path: scale
        for path, scale in scales.items()
        if norms == "all held" or (norms == "last held" and path == ("final_norm",))
    }
    score, loss = _score(logits, tokens), jnp.mean(token_losses(model, params, tokens))

    def apply(strengths: Array) -> tuple[Array, Array]:
        def damage(following: Callable, args: tuple, kwargs: Mapping, context: Any) -> Any:
            if _is_heads(context):
                layer = layer_of(context.module.path)
                share, clean = strengths[layer][None, None, :, None], args[0]
                return clean + share * (_replaced(heads[layer], replacement) - heads[layer])
            if _is_norm(context) and context.module.path in kept:
                return _held(context, args[0], kept[context.module.path])
            return following(*args, **kwargs)

        with nn.intercept_methods(damage):
            found = model.apply({"params": params}, tokens)
            rise = jnp.mean(token_losses(model, params, tokens)) - loss
        return score - _score(found, tokens), rise  # type: ignore[arg-type]

    return jax.lax.map(apply, damages)


@partial(jax.jit, static_argnames="model")
def _direct(model: LanguageModel, params: Params, tokens: Array) -> Array:
    """DE, `(replacement, layer, head)`: what a head writes goes through the held final LayerNorm, and that is linear."""
    _, heads, scales = _watched(model, params, tokens)
    scale, weight = scales[("final_norm",)], params["final_norm"]["scale"]

    def effect(layer: int, replacement: str) -> Array:
        lost = heads[layer] - _replaced(heads[layer], replacement)
        written = jnp.einsum("bthd,hde->bthe", lost, params[f"block_{layer}"]["attention"]["out"])
        written = (written - written.mean(-1, keepdims=True)) * scale[..., None] * weight[None, None, None]
        logits = written @ params["unembedding"]
        return jnp.stack([_score(logits[:, :, head], tokens) for head in range(model.num_heads)])

    return jnp.stack([jnp.stack([effect(layer, one) for layer in range(model.num_layers)]) for one in REPLACEMENTS])
