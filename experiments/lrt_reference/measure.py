"""Level chains, and Metropolis-adjusted ones: full gradients on the first sequences of the empirical loss, from w* or from where SGLD ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from configs.lrt_reference import Adjusted
from slt_jax.posterior import LocalPosterior, example_losses
from slt_jax.sampling.metrics import Metric, curvature_metric
from slt_jax.typing import Array, Batch, Params, PRNGKey
from slt_lab.measure import Variable
from slt_lab.measures.llc import draw, estimate, llc_variables
from slt_lab.nuts import NutsChain, nuts_chain
from slt_lab.settings import Sampling
from slt_lab.streams import stream
from slt_lab.subject import Subject

__all__ = ["STARTS", "AdjustedChain", "LevelLLC"]

Start: TypeAlias = Literal["checkpoint", "SGLD"]
STARTS: tuple[Start, ...] = ("checkpoint", "SGLD")
CHUNK = 1024  # sequences per pass of losses without gradients


@dataclass(frozen=True)
class LevelLLC:
    """The LLC by chains that are level; its variables are called `level...`, beside SGLD's `llc...`."""

    sampling: Sampling
    name: str = "level"
    axis: str = "checkpoint"

    def steps(self, subject: Subject) -> Sequence[int]:
        return subject.sampled_steps(self.sampling.checkpoint_steps)

    def take(self, subject: Subject, params: Params) -> Mapping[str, Any]:
        data = subject.posterior_data(self.sampling.num_examples)
        return estimate(draw(subject.chains_key, subject, data, params, self.sampling), "level")

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        del subject
        return llc_variables("level", "level_chain")

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        del subject
        return {}


@dataclass(frozen=True)
class AdjustedChain:
    """A chain at each checkpoint.

    Attributes:
        sampling: the posterior, and SGLD for the other starting point.
        adjusted: the chain.
        start: where it begins.
        number: which of the chains that begin there.
    """

    sampling: Sampling
    adjusted: Adjusted
    start: Start
    number: int
    name: str = "adjusted chain"
    axis: str = "checkpoint"

    def steps(self, subject: Subject) -> Sequence[int]:
        return subject.sampled_steps(self.sampling.checkpoint_steps)

    def take(self, subject: Subject, params: Params) -> Mapping[str, Any]:
        settings = self.adjusted
        data = subject.posterior_data(self.sampling.num_examples)
        part, other = (
            _rows(data, 0, settings.num_examples),
            _rows(data, settings.num_examples, settings.num_other_examples),
        )
        posterior = LocalPosterior(subject.loss_fn, part, params, self.sampling.nbeta, self.sampling.localization)
        keys = jax.random.split(jax.random.fold_in(_key(self.start), self.number), 3)
        start = params if self.start == "checkpoint" else self._end_of_sgld(keys[0], subject, data, params)
        # The same metric for every chain: it is no part of what is compared.
        metric = curvature_metric(
            stream("regression/reference"), posterior, settings.metric_rank, num_examples=settings.metric_examples
        )
        chain = _chain(keys[1], posterior, other, start, metric, settings.num_warmup, settings.num_draws)
        found = jax.device_get(chain)
        return {
            "adjusted_excess": np.asarray(found.excess, np.float32),
            "adjusted_difference": np.asarray(found.observed["other excess"] - found.excess, np.float32),
            "adjusted_acceptance": float(found.acceptance.mean()),
            "adjusted_divergences": float(found.divergent.mean()),
            "adjusted_gradients": int(found.leapfrogs.sum()),
        }

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        del subject
        return {
            "adjusted_excess": Variable(("adjusted_draw",), "nβ times the loss above the checkpoint's"),
            "adjusted_difference": Variable(("adjusted_draw",), "the same on other sequences, minus that"),
            "adjusted_acceptance": Variable((), "mean acceptance of a transition"),
            "adjusted_divergences": Variable((), "share of divergent transitions"),
            "adjusted_gradients": Variable((), "full gradients after adaptation"),
        }

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        del subject
        return {}

    def _end_of_sgld(self, key: PRNGKey, subject: Subject, data: Batch, params: Params) -> Params:
        """The parameters after SGLD on the whole empirical loss."""
        settings = replace(self.sampling, num_chains=1, num_burnin=0, num_draws=self.adjusted.sgld_steps)
        samples = draw(key, subject, data, params, settings)
        assert samples.chains is not None
        return jax.tree.map(lambda leaf: leaf[0], samples.chains.kernel_state.params)


def _key(start: Start) -> PRNGKey:
    return jax.random.fold_in(stream("regression/reference"), STARTS.index(start))


def _rows(data: Batch, first: int, count: int) -> Batch:
    return jax.tree.map(lambda leaf: leaf[first : first + count], data)


def _chain(
    key: PRNGKey,
    posterior: LocalPosterior,
    other: Batch,
    start: Params,
    metric: Metric,
    num_warmup: int,
    num_draws: int,
) -> NutsChain:
    """The chain, and nβ(L - L*) on `other` sequences at every draw."""
    center_losses = example_losses(replace(posterior, data=other), posterior.center, CHUNK)
    return _compiled(num_warmup, num_draws)(key, posterior, other, center_losses, ravel_pytree(start)[0], metric)


@cache
def _compiled(num_warmup: int, num_draws: int) -> Any:
    """One program for all checkpoints and seeds."""

    @jax.jit
    def run(
        key: PRNGKey, posterior: LocalPosterior, other: Batch, center_losses: Array, start: Array, metric: Metric
    ) -> NutsChain:
        unravel = ravel_pytree(posterior.center)[1]

        def other_excess(params: Params) -> Array:
            losses = example_losses(replace(posterior, data=other), params, CHUNK)
            return posterior.nbeta * jnp.mean(losses - center_losses)

        return nuts_chain(
            key, posterior, start, unravel, num_warmup=num_warmup, num_draws=num_draws, metric=metric,
            observables={"other excess": other_excess},
        )  # fmt: skip

    return run
