"""What chains recorded: settings going in, `Samples` coming out."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from slt_jax.posterior import Restriction
from slt_jax.sampling.chains import ChainState
from slt_jax.trees import num_parameters

__all__ = ["ChainSettings", "Samples", "collect", "join", "select_chains"]


class ChainSettings(NamedTuple):
    """What may differ from chain to chain inside one compiled program; every leaf has a leading chain axis."""

    step_size: jax.Array
    nbeta: jax.Array
    localization: jax.Array
    restriction: Restriction | None = None


@dataclass(frozen=True)
class Samples:
    """What chains recorded. Axes `(chain, draw)`, after burn-in, every value taken after its step.

    Attributes:
        loss: mean minibatch loss, `(chain, draw)`, in the units of the loss.
        center_loss: the baseline L_n(w*): `(chain, draw)` on the same minibatches if `baseline` is "paired", else
            `(chain, 1)`.
        grad_norm: norm of the minibatch gradient of the loss, `(chain, draw)`.
        burnin_excess: loss minus baseline during burn-in, one value a step, `(chain, num_burnin)`.
        observables: name -> `(chain, draw, ...)`.
        finite: `(chain,)`, false where a loss or gradient was not finite, burn-in included.
        acceptance: `(chain,)`, mean acceptance of a Metropolis correction at the last states; NaN where the kernel has
            no such test (SGNHT).
        baseline: "paired", "full" or "number".
        nbeta, localization, step_size: the settings of each chain, `(chain,)`.
        num_parameters: how many scalars were sampled.
        chains: the chains' final states, leading axis `chain`, their statistics taken out.
        statistics: name -> state of a `Statistic` after the last draw (`BlockMoments`), leading axis `chain`.
    """

    loss: np.ndarray
    center_loss: np.ndarray
    grad_norm: np.ndarray
    burnin_excess: np.ndarray
    observables: dict[str, np.ndarray]
    finite: np.ndarray
    acceptance: np.ndarray
    baseline: str
    nbeta: np.ndarray
    localization: np.ndarray
    step_size: np.ndarray
    num_parameters: int
    chains: ChainState
    statistics: dict[str, Any] = field(default_factory=dict)

    @property
    def excess(self) -> np.ndarray:
        """Loss minus baseline, `(chain, draw)`."""
        return self.loss - self.center_loss


def select_chains(samples: Samples, chains: slice) -> Samples:
    """What the chains in `chains` recorded, as samples of their own, their states on one device.

    Slicing a state that is sharded over devices would be a program with a collective for every leaf. Several of those in
    flight wait for each other where XLA has no more threads than devices, and XLA then aborts the process.
    """
    names = ("loss", "center_loss", "grad_norm", "burnin_excess", "finite", "acceptance", "nbeta", "localization", "step_size")  # fmt: skip
    picked = {name: getattr(samples, name)[chains] for name in names}
    observables = {name: values[chains] for name, values in samples.observables.items()}
    statistics = jax.tree.map(lambda leaf: leaf[chains], samples.statistics)
    device = min(samples.chains.key.devices(), key=lambda one: one.id)
    states = jax.tree.map(lambda leaf: leaf[chains], jax.device_put(samples.chains, device))
    return replace(samples, observables=observables, statistics=statistics, chains=states, **picked)


def join(parts: list) -> Any:
    """Traces of consecutive chunks, `(chain, draw, ...)` each, as one."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)


def collect(
    chains: ChainState,
    burnin: list,
    draws: list,
    acceptance: jax.Array,
    settings: ChainSettings,
    baseline: str,
    number: float | None,
) -> Samples:
    """The stored traces and final chains as `Samples`; `number` is the baseline where it is one number."""
    num_chains = len(settings.step_size)
    trace = join(draws)
    constant = np.full((num_chains, 1), np.nan if number is None else number)
    center_loss = constant if number is not None else np.asarray(trace.center_loss, np.float64)
    early = np.zeros((num_chains, 0))
    if burnin:
        warmup = join(burnin)
        early = np.asarray(warmup.loss, np.float64)
        early = early - (constant if number is not None else np.asarray(warmup.center_loss, np.float64))
    sampled = jax.tree.map(lambda leaf: leaf[0], chains.kernel_state.params)
    return Samples(
        loss=np.asarray(trace.loss, np.float64),
        center_loss=center_loss,
        grad_norm=np.asarray(trace.grad_norm),
        burnin_excess=early,
        observables=dict(trace.observables),
        finite=np.asarray(chains.finite),
        acceptance=np.asarray(acceptance),
        baseline=baseline,
        nbeta=np.asarray(settings.nbeta, np.float64),
        localization=np.asarray(settings.localization, np.float64),
        step_size=np.asarray(settings.step_size, np.float64),
        num_parameters=num_parameters(sampled),
        chains=chains._replace(statistics={}),
        statistics=jax.tree.map(np.asarray, chains.statistics),
    )
