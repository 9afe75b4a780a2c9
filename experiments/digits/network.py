"""A perceptron on scikit-learn's handwritten digits (1,797 images of 8x8 pixels, ten classes): data, loss, training."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Float

from configs.digits import Network
from slt_jax.typing import Array, Batch, Params, PRNGKey

__all__ = ["Perceptron", "Split", "accuracy", "cross_entropy", "load_digits", "train"]


class Perceptron(nn.Module):
    """pixels -> tanh layer -> ten logits."""

    hidden_units: int

    @nn.compact
    def __call__(self, images: Float[Array, "batch pixels"]) -> Float[Array, "batch classes"]:
        hidden = nn.tanh(nn.Dense(self.hidden_units, name="hidden")(images))
        return nn.Dense(10, name="output")(hidden)


class Split(NamedTuple):
    """Training and test images, `{"image": (n, 64) in [-1, 1], "label": (n,)}`."""

    train: Batch
    test: Batch


def load_digits(num_examples: int, seed: int) -> Split:
    """A random split with `num_examples` for training.

    Raises:
        ValueError: unless both parts get at least one image.
    """
    from sklearn.datasets import load_digits as load

    images, labels = load(return_X_y=True)
    if not 1 <= num_examples < len(images):
        raise ValueError(
            f"num_examples = {num_examples}; there are {len(images)} images, and one must be left for testing"
        )
    order = np.random.default_rng(seed).permutation(len(images))
    data = {"image": (images / 8 - 1).astype(np.float32)[order], "label": labels.astype(np.int32)[order]}
    parts = (slice(None, num_examples), slice(num_examples, None))
    return Split(*({name: jnp.asarray(values[part]) for name, values in data.items()} for part in parts))


def _logits(params: Params, images: Array) -> Array:
    hidden = params["params"]["hidden"]["bias"].shape[0]
    return jnp.asarray(Perceptron(hidden).apply(params, images))


def cross_entropy(params: Params, batch: Batch) -> Float[Array, " batch"]:
    """-log p(label), one per image, in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(_logits(params, batch["image"]), batch["label"])


def accuracy(params: Params, batch: Batch) -> float:
    """Share of images whose largest logit is that of their label."""
    return float(jnp.mean(jnp.argmax(_logits(params, batch["image"]), axis=-1) == batch["label"]))


@partial(jax.jit, static_argnames="network")
def train(key: PRNGKey, data: Batch, network: Network) -> tuple[Params, Array]:
    """Parameters after Adam on the full data, and the loss at every step, `(num_steps,)`."""
    params = Perceptron(network.hidden_units).init(key, data["image"][:1])
    optimizer = optax.adam(optax.cosine_decay_schedule(network.learning_rate, network.num_steps))

    def step(carry: tuple, _: None) -> tuple[tuple, Array]:
        params, state = carry
        loss, gradient = jax.value_and_grad(lambda p: jnp.mean(cross_entropy(p, data)))(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), loss

    (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params)), length=network.num_steps)
    return params, losses


def check_trained(losses: Array) -> None:
    """Refuse a training that blew up.

    Raises:
        FloatingPointError: if the loss is not finite, or ends at twice what it was.
    """
    first, last = float(losses[0]), float(losses[-1])
    if not last < 2 * first:
        raise FloatingPointError(f"the training loss went from {first:.3g} to {last:.3g}; lower network.learning_rate")
