"""The local learning coefficient of all weights, with its traces."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from slt_jax.estimators.llc import llc
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.driver import sample
from slt_jax.sampling.samples import Samples
from slt_jax.typing import Batch, Params, PRNGKey
from slt_lab.measure import Variable
from slt_lab.settings import Sampling
from slt_lab.subject import Subject
from slt_lab.work import sampling_options

__all__ = ["LLC", "estimate", "llc_variables"]

TUNING = 2**31 - 1
"""Folded into the key of the chains: no chain has this number."""


def llc_variables(prefix: str = "llc", chain: str = "chain") -> dict[str, Variable]:
    """The variables of an estimate: `llc`, `llc_std_error`, ..., with dims `(chain[, draw])`."""
    return {
        prefix: Variable((), "local learning coefficient"),
        f"{prefix}_std_error": Variable((), "standard error of the LLC"),
        f"{prefix}_rhat": Variable((), "rank-normalised R-hat of the LLC"),
        f"{prefix}_ess": Variable((), "effective draws", "draws"),
        f"{prefix}_drift": Variable((), "LLC of the second half of the draws minus that of the first"),
        f"{prefix}_drift_std_error": Variable((), "standard error of the drift"),
        f"{prefix}_acceptance": Variable((), "Metropolis acceptance of a Langevin step"),
        f"{prefix}_per_chain": Variable((chain,), "LLC of each chain"),
        f"{prefix}_diverged": Variable((chain,), "whether a chain diverged"),
        f"{prefix}_status": Variable((), "what the estimate says of itself: ok, or what is the matter"),
    }


def estimate(samples: Samples, prefix: str = "llc") -> dict[str, Any]:
    """The estimate and its diagnostics, named as in `llc_variables`."""
    found = asdict(llc(samples))
    names = {
        "mean": prefix, **{name: f"{prefix}_{name}" for name in ("std_error", "rhat", "ess", "drift", "drift_std_error", "acceptance", "per_chain", "diverged", "status")},
    }  # fmt: skip
    return {variable: found[name] for name, variable in names.items()}


@dataclass(frozen=True)
class LLC:
    """The LLC at the steps that its settings name."""

    sampling: Sampling
    name: str = "llc"
    axis: str = "checkpoint"

    def steps(self, subject: Subject) -> Sequence[int]:
        return subject.sampled_steps(self.sampling.checkpoint_steps)

    def take(self, subject: Subject, params: Params) -> Mapping[str, Any]:
        settings = self.sampling
        data = subject.posterior_data(settings.num_examples)
        samples = draw(subject.chains_key, subject, data, params, settings)
        nbeta = samples.nbeta[:, None]
        return {
            **estimate(samples),
            "llc_trace": (nbeta * samples.excess).astype(np.float32),
            "llc_burnin_trace": (nbeta * samples.burnin_excess).astype(np.float32),
        }

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        del subject
        return {
            **llc_variables(),
            "llc_trace": Variable(("chain", "draw"), "nβ times the loss above that of the checkpoint"),
            "llc_burnin_trace": Variable(("chain", "burnin_step"), "the same during burn-in"),
        }

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        del subject
        return {}


def draw(key: PRNGKey, subject: Subject, data: Batch, params: Params, settings: Sampling) -> Samples:
    """Samples of the local posterior of all weights at `params`."""
    posterior = LocalPosterior(subject.loss_fn, data, params, settings.nbeta, settings.localization)
    tuned = settings.sampler().tune(jax.random.fold_in(key, TUNING), posterior)
    return sample(
        key, posterior, tuned, num_chains=settings.num_chains, num_draws=settings.num_draws,
        num_burnin=settings.num_burnin, layout=None if settings.layout == "auto" else settings.layout,
        **sampling_options(),
    )  # fmt: skip
