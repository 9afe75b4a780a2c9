"""What is asked of the digits network: the truth by retraining, and two predictions of it.

A query φ is the loss of a test image. All three are the change of φ when example i is left out, its share of the objective
(1/n) Σ_i l_i + c/2·|w|² taken away:

    retraining      φ(w without i) - φ(w)                             from the same initial weights
    Bayesian        (nβ/n) Cov(φ, l_i)                                under the local posterior (arXiv 2509.26544)
    classical       (1/n) ∇φ·(∇²L + d)⁻¹∇l_i                          (Koh & Liang 2017, arXiv 1703.04730)

For a quadratic loss the second is the third with d = γ/nβ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial

from configs.influence import Chains, Influence, Retraining
from slt_jax.estimators.covariances import influence
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.driver import sample
from slt_jax.sampling.sampler import Sampler
from slt_jax.sampling.statistics import cross_moments
from slt_jax.sampling.underdamped import underdamped
from slt_jax.typing import Array, Batch, Params
from slt_lab.measure import Measure, Variable
from slt_lab.measures.llc import TUNING
from slt_lab.streams import stream
from slt_lab.subjects.digits import DigitsSubject, cross_entropy, retrain
from slt_lab.work import sampling_options

__all__ = ["Bayesian", "Classical", "Retrained", "damped_influence", "measures"]

CHANGE = "change of a test loss when a training example is left out"


def measures(config: Influence) -> list[Measure]:
    """The truth and its two predictions."""
    count = config.num_queries
    return [
        Retrained(config.retraining, config.seed, count),
        Bayesian(config.chains, count),
        Classical((damping(config), *config.damping), count),
    ]


def damping(config: Influence) -> float:
    """γ/nβ, what the posterior adds to the Hessian."""
    n = config.network.num_examples
    return config.chains.localization / (config.chains.nbeta or n)


def queries(subject: DigitsSubject, count: int) -> Batch:
    """The first `count` test images."""
    return jax.tree.map(lambda leaf: leaf[:count], subject.test)


@dataclass(frozen=True)
class _Once:
    """Asked of the trained network, once."""

    axis = "checkpoint"

    def steps(self, subject: DigitsSubject) -> Sequence[int]:
        return subject.save_at

    def coords(self, subject: DigitsSubject) -> Mapping[str, Sequence]:
        del subject
        return {}


@dataclass(frozen=True)
class Retrained(_Once):
    """Losses of the queries after training with all the data, without single examples, and on random parts."""

    settings: Retraining
    seed: int
    num_queries: int
    name: str = "retraining"

    def take(self, subject: DigitsSubject, params: Params) -> Mapping[str, Any]:
        settings, n = self.settings, subject.network.num_examples
        left_out = choose(np.asarray(cross_entropy(params, subject.train)), settings.num_left_out, self.seed)
        member = random_parts(n, settings, self.seed)
        whole = self._losses(subject, np.ones((1, n)), settings.num_retrainings)
        without = self._losses(subject, 1 - np.eye(n)[left_out], settings.num_retrainings)
        parts = self._losses(subject, member, settings.num_subset_retrainings)
        return {
            "left_out": left_out, "train_loss": cross_entropy(params, subject.train), "loss_with_all": whole[0],
            "loss_without": without, "member": member.astype(bool), "loss_of_part": parts,
            "train_accuracy": accuracy(params, subject.train), "test_accuracy": accuracy(params, subject.test),
        }  # fmt: skip

    def _losses(self, subject: DigitsSubject, weights: np.ndarray, count: int) -> np.ndarray:
        """Query losses `(weights, retraining, query)`; retraining r of every row starts from the same parameters."""
        keys = jax.vmap(partial(jax.random.fold_in, subject.init_key))(jnp.arange(count))
        runs = jnp.repeat(jnp.asarray(weights, jnp.float32), count, axis=0)
        trained = retrain(jnp.tile(keys, len(weights)), runs, subject.train, subject.network)
        losses = jax.vmap(lambda params: cross_entropy(params, queries(subject, self.num_queries)))(trained)
        return np.asarray(losses).reshape(len(weights), count, -1)

    def variables(self, subject: DigitsSubject) -> Mapping[str, Variable]:
        del subject
        runs = ("retraining", "query")
        return {
            "left_out": Variable(("left_out_example",), "number of an example that is left out"),
            "train_loss": Variable(("example",), "loss of every training example", "nats"),
            "loss_with_all": Variable(runs, "test losses after training on all the data", "nats"),
            "loss_without": Variable(("left_out_example", *runs), "the same without an example", "nats"),
            "member": Variable(("part", "example"), "whether an example is in a part of the data"),
            "loss_of_part": Variable(("part", "part_retraining", "query"), "the same on a part of the data", "nats"),
            "train_accuracy": Variable((), "share of training images that are right"),
            "test_accuracy": Variable((), "share of test images that are right"),
        }


def choose(losses: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Half of `count` the examples of the highest loss, the rest at random from the others."""
    order = np.argsort(-losses)
    high = order[: count // 2]
    key = stream("digits/left out", seed)
    others = np.asarray(jax.random.permutation(key, jnp.asarray(order[count // 2 :])))
    return np.concatenate([high, others[: count - len(high)]])


def random_parts(n: int, settings: Retraining, seed: int) -> np.ndarray:
    """Membership `(part, n)` of random parts of one size."""
    keys = jax.random.split(stream("digits/subsets", seed), settings.num_subsets)
    order = np.asarray(jax.vmap(lambda key: jax.random.permutation(key, n))(keys))
    return (order < round(settings.subset_share * n)).astype(np.float32)


def accuracy(params: Params, batch: Batch) -> Array:
    """Share of the images whose largest logit is that of their label: those whose loss as any other label is higher."""
    others = jnp.stack([cross_entropy(params, {**batch, "label": jnp.full_like(batch["label"], k)}) for k in range(10)])
    return jnp.mean(jnp.argmin(others, axis=0) == batch["label"])


@dataclass(frozen=True)
class Bayesian(_Once):
    """(nβ/n) Cov(φ, l_i) of every example and query, with error bars."""

    settings: Chains
    num_queries: int
    name: str = "Bayesian influence"

    def take(self, subject: DigitsSubject, params: Params) -> Mapping[str, Any]:
        settings, data = self.settings, subject.train
        n = subject.network.num_examples
        posterior = LocalPosterior(subject.loss_fn, data, params, settings.nbeta or float(n), settings.localization)
        tuned = Sampler(underdamped(None)).tune(jax.random.fold_in(subject.chains_key, TUNING), posterior)
        moments = cross_moments(
            Partial(_losses, queries(subject, self.num_queries)), Partial(_losses, data)
        )  # fmt: skip
        samples = sample(
            subject.chains_key, posterior, tuned, num_chains=settings.num_chains, num_burnin=settings.num_burnin,
            num_draws=settings.num_draws, thinning=settings.thinning, statistics={"losses": moments}, **sampling_options(),
        )  # fmt: skip
        found = influence(samples, "losses", "response", n=n)  # of one more unit of weight; leaving out is one less
        return {
            "bayesian": -found.value, "bayesian_std_error": found.std_error, "bayesian_ess": found.ess,
            "bayesian_between": np.asarray(found.between_share), "bayesian_diverged": found.diverged, "bayesian_status": found.status,
        }  # fmt: skip

    def variables(self, subject: DigitsSubject) -> Mapping[str, Variable]:
        del subject
        pairs = ("query", "example")
        return {
            "bayesian": Variable(pairs, f"Bayesian influence: {CHANGE}", "nats"),
            "bayesian_std_error": Variable(pairs, "standard error of the Bayesian influence", "nats"),
            "bayesian_ess": Variable(pairs, "effective draws of the products", "draws"),
            "bayesian_between": Variable((), "share of the covariance that lies between chains"),
            "bayesian_diverged": Variable(("chain",), "whether a chain diverged"),
            "bayesian_status": Variable((), "what the estimate says of itself: ok, or what is the matter"),
        }


def _losses(batch: Batch, params: Params) -> Array:
    return cross_entropy(params, batch)


@dataclass(frozen=True)
class Classical(_Once):
    """(1/n) ∇φ·(∇²L + d)⁻¹∇l_i of every example and query, at several dampings d."""

    dampings: tuple[float, ...]
    num_queries: int
    name: str = "classical influence"

    def take(self, subject: DigitsSubject, params: Params) -> Mapping[str, Any]:
        flat, unravel = ravel_pytree(params)

        def objective(vector: Array) -> Array:
            return jnp.mean(subject.loss_fn(unravel(vector), subject.train))

        def gradients(batch: Batch) -> np.ndarray:
            return np.asarray(jax.jacrev(lambda vector: cross_entropy(unravel(vector), batch))(flat), np.float64)

        hessian = np.asarray(jax.hessian(objective)(flat), np.float64)
        curvatures, axes = np.linalg.eigh((hessian + hessian.T) / 2)
        asked, examples = (gradients(batch) @ axes for batch in (queries(subject, self.num_queries), subject.train))
        found = [damped_influence(curvatures, asked, examples, d) for d in self.dampings]
        return {
            "classical": np.stack(found),
            "curvatures": curvatures,
            "gradient_norm": jnp.linalg.norm(jax.grad(objective)(flat)),
        }

    def variables(self, subject: DigitsSubject) -> Mapping[str, Variable]:
        del subject
        return {
            "classical": Variable(("damping", "query", "example"), f"classical influence: {CHANGE}", "nats"),
            "curvatures": Variable(("direction",), "eigenvalues of the Hessian of the objective"),
            "gradient_norm": Variable((), "length of the gradient of the objective at the trained parameters"),
        }

    def coords(self, subject: DigitsSubject) -> Mapping[str, Sequence]:
        del subject
        return {"damping": self.dampings}


def damped_influence(curvatures: np.ndarray, queries: np.ndarray, examples: np.ndarray, damping: float) -> np.ndarray:
    """(1/n) ∇φ·(H + d)⁻¹∇l_i, `(query, example)`, of gradients in the eigenbasis of H; NaN unless H + d is positive definite."""
    if curvatures.min() + damping <= 0:
        return np.full((len(queries), len(examples)), np.nan)
    return (queries / (curvatures + damping)) @ examples.T / len(examples)
