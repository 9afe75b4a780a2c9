"""A perceptron on scikit-learn's handwritten digits, trained on all its data or on a part of them: for questions of influence."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jaxtyping import Float

from slt_jax.typing import Array, Batch, Params, PRNGKey
from slt_lab.errors import UserError
from slt_lab.streams import stream
from slt_lab.subject import Subject
from slt_lab.subjects.digits_settings import Network

__all__ = ["DecayedLoss", "DigitsSubject", "cross_entropy", "digits_subject", "retrain"]

AT_ONCE = 8  # trainings side by side


class Perceptron(nn.Module):
    """pixels -> tanh layer -> ten logits."""

    hidden_units: int

    @nn.compact
    def __call__(self, images: Float[Array, "batch pixels"]) -> Float[Array, "batch classes"]:
        return nn.Dense(10, name="output")(nn.tanh(nn.Dense(self.hidden_units, name="hidden")(images)))


@dataclass(frozen=True, kw_only=True)
class DigitsSubject(Subject):
    """A trained perceptron; its parameters are given, and `init` finds them.

    Attributes:
        network: what was trained.
        train, test: `{"image": (n, 64) in [-1, 1], "label": (n,)}`.
        init_key: of the retraining number r, `fold_in(init_key, r)`; number 0 is the subject itself.
    """

    network: Network
    train: Batch
    test: Batch
    init_key: PRNGKey


def digits_subject(network: Network, seed: int) -> DigitsSubject:
    """The network trained on a random part of the images.

    Raises:
        UserError: unless both parts get at least one image.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    if not 1 <= network.num_examples < len(images):
        raise UserError(
            f"network.num_examples = {network.num_examples}; there are {len(images)} images, and one must be left for testing"
        )
    order = np.random.default_rng(seed).permutation(len(images))
    data = {"image": (images / 8 - 1).astype(np.float32)[order], "label": labels.astype(np.int32)[order]}
    train, test = (
        {name: jnp.asarray(values[part]) for name, values in data.items()}
        for part in (slice(None, network.num_examples), slice(network.num_examples, None))
    )
    key = stream("digits/init", seed)
    everything = jnp.ones((1, network.num_examples))

    def trained() -> Params:
        own = jax.random.fold_in(key, 0)[None]
        return jax.tree.map(lambda leaf: leaf[0], retrain(own, everything, train, network))

    return DigitsSubject(
        name="digits",
        identity=(network, seed),
        loss_fn=DecayedLoss(network.weight_decay),
        init=trained,
        posterior_data=lambda count: jax.tree.map(lambda leaf: leaf[:count], train),
        chains_key=stream("digits/chains", seed),
        network=network,
        train=train,
        test=test,
        init_key=key,
    )


def cross_entropy(params: Params, batch: Batch) -> Float[Array, " batch"]:
    """-log p(label), one per image, in nats."""
    hidden = params["params"]["hidden"]["bias"].shape[0]
    logits = jnp.asarray(Perceptron(hidden).apply(params, batch["image"]))
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])


def decay(params: Params, weight_decay: float) -> Array:
    """c/2·|w|²."""
    return weight_decay / 2 * sum((jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)), jnp.zeros(()))


@dataclass(frozen=True)
class DecayedLoss:
    """`cross_entropy` with c/2·|w|² in every example's loss: its mean is the objective of training."""

    weight_decay: float

    def __call__(self, params: Params, batch: Batch) -> Float[Array, " batch"]:
        return cross_entropy(params, batch) + decay(params, self.weight_decay)


@partial(jax.jit, static_argnames="network")
def retrain(keys: PRNGKey, weights: Float[Array, "run example"], data: Batch, network: Network) -> Params:
    """Parameters after Adam on Σ_i weight_i·l_i/n + c/2·|w|², with leading axis `run`.

    Args:
        keys: of the initial parameters, one per run.
        weights: 1 for an example that takes part, 0 for one that is left out; the sum is divided by n all the same.
        data: the n examples.
        network: what is trained, and how.
    """
    optimizer = optax.adam(optax.cosine_decay_schedule(network.learning_rate, network.num_steps))

    def objective(params: Params, weight: Array) -> Array:
        return jnp.mean(weight * cross_entropy(params, data)) + decay(params, network.weight_decay)

    def one(run: tuple[PRNGKey, Array]) -> Params:
        key, weight = run
        params = Perceptron(network.hidden_units).init(key, data["image"][:1])

        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            params, state = carry
            updates, state = optimizer.update(jax.grad(objective)(params, weight), state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), length=network.num_steps)
        return params

    return jax.lax.map(one, (keys, weights), batch_size=AT_ONCE)
