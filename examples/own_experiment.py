"""An experiment of one's own in one file: a small network learns to tell two rings apart; how complex is it on the way?

    python -m slt_lab examples/own_experiment.py --config demo
    python -m slt_lab examples/own_experiment.py --config demo --sampling.localization 20     trains nothing again

What is trained is a `Subject`, what is asked of it are measures (the LLC, and one of our own), what is shown is a page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import xarray

from slt_lab import Experiment, Page, Picture, Sampling, Section, Subject, Table, Variable
from slt_lab.measures.llc import LLC

INIT, TRAINING, DATA, CHAINS, TEST = range(5)  # uses of the seed


@dataclass(frozen=True)
class Rings:
    """Every setting has a flag: `--hidden 16`, `--sampling.num-chains 8`."""

    hidden: int = 8
    num_steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 0.01
    seed: int = 0
    checkpoints: tuple[int, ...] = (100, 300, 600, 1000, 1500)
    sampling: Sampling = field(default_factory=partial(Sampling, 16384, 148.0, 10.0, None, 128, 4, 4000, 1000))


def rings(key: jax.Array, count: int) -> dict[str, jax.Array]:
    """Points on two noisy rings, labelled by their ring."""
    angle_key, ring_key, noise_key = jax.random.split(key, 3)
    label, angle = jax.random.bernoulli(ring_key, 0.5, (count,)), 2 * jnp.pi * jax.random.uniform(angle_key, (count,))
    radius = jnp.where(label, 1.5, 0.7) + 0.2 * jax.random.normal(noise_key, (count,))
    return {"x": radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1), "label": label}


def logits(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["inner"] + params["bias"][None]) @ params["outer"] + params["offset"]


def loss_fn(params: Any, batch: Any) -> jax.Array:
    """-log p(label) in nats, one per example."""
    return optax.sigmoid_binary_cross_entropy(logits(params, batch["x"]), batch["label"].astype(jnp.float32))


def init(key: jax.Array, hidden: int) -> dict[str, jax.Array]:
    inner, outer = jax.random.split(key)
    return {
        "inner": jax.random.normal(inner, (2, hidden)), "bias": jnp.zeros(hidden),
        "outer": jax.random.normal(outer, (hidden,)) / hidden**0.5, "offset": jnp.zeros(()),
    }  # fmt: skip


def subjects(config: Rings, folder: Any) -> dict[str, Subject]:
    """One training; several seeds would be several subjects, and `axis="seed"`."""
    del folder
    key = partial(jax.random.fold_in, jax.random.key(config.seed))
    identity = (config.hidden, config.num_steps, config.batch_size, config.learning_rate, config.seed)
    subject = Subject(
        name="network", identity=identity, loss_fn=loss_fn, init=lambda: init(key(INIT), config.hidden),
        batches=lambda key, step, data: rings(key, config.batch_size), optimizer=optax.adam(config.learning_rate),
        num_steps=config.num_steps, save_at=(0, *config.checkpoints, config.num_steps), training_key=key(TRAINING),
        posterior_data=partial(rings, key(DATA)), chains_key=key(CHAINS), data=rings(key(TEST), 2000),
    )  # fmt: skip
    return {"network": subject}


@dataclass(frozen=True)
class Accuracy:
    """Loss and share of right answers on fresh points, at every step that is kept."""

    name: str = "accuracy"
    axis: str = "step"

    def steps(self, subject: Subject) -> Sequence[int]:
        return subject.save_at

    def take(self, subject: Subject, params: Any) -> Mapping[str, Any]:
        right = (logits(params, subject.data["x"]) > 0) == subject.data["label"]
        return {"accuracy": right.mean(), "loss": loss_fn(params, subject.data).mean()}

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        return {"accuracy": Variable((), "share of right answers"), "loss": Variable((), "loss", "nats")}

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        return {}


def page(results: xarray.Dataset, config: Rings) -> Page:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    axes[0].plot(results.step, results.loss, marker="o")
    axes[1].errorbar(results.checkpoint, results.llc, 2 * results.llc_std_error, marker="o", capsize=2)
    for ax, name in zip(axes, ("loss in nats", "LLC (bars: 2 standard errors)"), strict=True):
        ax.set(xlabel="training step", ylabel=name)
    at = results.sel(step=results.checkpoint)
    numbers = np.stack([at.checkpoint, at.accuracy, at.llc, at.llc_std_error], axis=-1).tolist()
    rows = [[f"{step:.0f}", f"{share:.1%}", f"{llc:.2f} ± {error:.2f}"] for step, share, llc, error in numbers]
    picture = Picture("development", figure, "Loss on fresh points and local learning coefficient over training.")
    note = (
        "Where training is at no minimum yet, the chains find a lower loss; the end of this page says at which steps."
    )
    table = Table(["step", "accuracy", "LLC"], rows)
    section = Section("Over training", [note], table, [picture], headline=f"LLC {rows[-1][2]} at step {rows[-1][0]}")
    lead = f"A network of {config.hidden} tanh units learns to tell two noisy rings apart."
    return Page("Two rings", lead, [section], summary={"llc": at.llc.values.tolist()})


EXPERIMENT = Experiment(
    name="two-rings", summary="a small network tells two rings apart", configs={"demo": Rings}, subjects=subjects,
    measures=lambda config: [Accuracy(), LLC(config.sampling)], page=page,
)  # fmt: skip
