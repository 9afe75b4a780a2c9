"""What chains recorded: settings going in, `Samples` coming out."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from slt_jax.posterior import Restriction
from slt_jax.sampling import records
from slt_jax.sampling.chains import ChainState
from slt_jax.sampling.inspection import Inspection
from slt_jax.sampling.notebook import samples_view
from slt_jax.trees import num_parameters
from slt_jax.typing import Params

if TYPE_CHECKING:
    import xarray

__all__ = ["ChainSettings", "OwnCenter", "Samples", "collect", "join", "select_chains"]


class OwnCenter(NamedTuple):
    """Centers of chains that have their own.

    Attributes:
        number: which of the centers, `(chain,)`; chains of one number have the same center.
        params: w*, the whole tree, leading axis `chain`.
        losses: the n losses there, `(chain, n)`, or `None`.
    """

    number: jax.Array
    params: Params
    losses: jax.Array | None = None


class ChainSettings(NamedTuple):
    """What may differ from chain to chain inside one compiled program; every leaf has a leading chain axis.

    Attributes:
        step_size, nbeta, localization: `(chain,)`.
        restriction: a stack of restrictions, one for each chain.
        center: w* of each chain; `None`: that of the posterior.
        stream: the number folded into the key for each chain; `None`: 0, 1, 2, ...

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.sampling.samples import ChainSettings
        >>> ChainSettings(jnp.array([1e-3, 1e-4]), jnp.array([100.0, 100.0]), jnp.array([1.0, 1.0])).step_size.shape
        (2,)
    """

    step_size: jax.Array
    nbeta: jax.Array
    localization: jax.Array
    restriction: Restriction | None = None
    center: OwnCenter | None = None
    stream: jax.Array | None = None


@dataclass(frozen=True, eq=False)
class Samples:
    """What chains recorded. Axes `(chain, draw)`, after burn-in, every value taken after its step.

    Two are equal (`==`) if everything recorded is equal, NaN to NaN; the final states `chains` are not compared. Arrays can be
    written to, so samples have no hash.

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
        chains: the chains' final states, leading axis `chain`, their statistics taken out; `None` in samples that were
            loaded from a file.
        statistics: name -> state of a `Statistic` after the last draw (`BlockMoments`), leading axis `chain`.
        inspection: what was found at w* before sampling, and how hot these chains were.
        inspections: the same for each chain, where chains have posteriors or step sizes of their own; else empty.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> samples = slt_jax.sample(jax.random.key(0), posterior, slt_jax.sgld(None), step_size=0.003, num_draws=100)
        >>> samples.excess.shape, samples.num_parameters, samples.finite.tolist()
        ((4, 100), 2, [True, True, True, True])
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
    chains: ChainState | None
    statistics: dict[str, Any] = field(default_factory=dict)
    inspection: Inspection = Inspection()  # noqa: RUF009 (frozen)
    inspections: tuple[Inspection, ...] = ()

    @property
    def excess(self) -> np.ndarray:
        """Loss minus baseline, `(chain, draw)`."""
        return self.loss - self.center_loss

    def __eq__(self, other: object) -> bool:
        return (
            records.same_fields(self, other, but=("chains", "inspections"))
            if isinstance(other, Samples)
            else NotImplemented
        )

    def to_xarray(self) -> "xarray.DataTree":
        """What was recorded as a tree of datasets in the layout of ArviZ, with units and long names.

        Groups, all with dims `(chain, draw)` unless said:
            posterior: `llc`, the draws of nβ(L - L(w*)) whose mean is the LLC; every observable by its name, further dims
                `NAME_dim_0`, ... A "/" in a name, which groups are told by, becomes ".".
            sample_stats: `loss`, `center_loss` (repeated where it is one number), `excess`, `grad_norm`.
            warmup_posterior, warmup_sample_stats: `llc` and `excess` at every step of burn-in; absent if there was none.
            settings: `nbeta`, `localization`, `step_size`, `finite`, `acceptance` by chain; `num_parameters`.

        Functions of `arviz_stats` and `arviz_plots` take the tree as it is, and `group="sample_stats"` for the other groups.
        They need `pip install "arviz-stats[xarray]" arviz-plots`; `arviz-plots` 0.8.0 does not import beside matplotlib 3.11.

        Raises:
            ValueError: if an observable has the name of another variable or of a dim.

        Example:
            tree = samples.to_xarray()
            arviz_stats.summary(tree)
            arviz_plots.plot_trace(tree, var_names="llc")
            tree["sample_stats"].loss.mean("draw")
        """
        return records.samples_to_xarray(self)

    def save(self, path: Path | str) -> None:
        """Write what was recorded to `path`, one `.npz` file with a digest, whole or not at all.

        The chains' final states are not kept: to stop and continue a run, give `sample` a `state_path`.

        Raises:
            ValueError: if an observable is a tree of arrays instead of an array.

        Example:
            samples.save("samples.npz")
            assert slt_jax.llc(Samples.load("samples.npz")) == slt_jax.llc(samples)
        """
        records.save_samples(self, path)

    @classmethod
    def load(cls, path: Path | str) -> "Samples":
        """What `save` wrote, the same to the bit, with `chains=None`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged or holds something else.
        """
        return records.load_samples(cls, path)

    def _repr_html_(self) -> str:
        return samples_view(self)


def select_chains(samples: Samples, chains: slice) -> Samples:
    """What the chains in `chains` recorded, as samples of their own, their states on one device.

    Slicing a state that is sharded over devices would be a program with a collective for every leaf. Several of those in
    flight wait for each other where XLA has no more threads than devices, and XLA then aborts the process.
    """
    names = ("loss", "center_loss", "grad_norm", "burnin_excess", "finite", "acceptance", "nbeta", "localization", "step_size")  # fmt: skip
    picked: dict[str, Any] = {name: getattr(samples, name)[chains] for name in names}
    observables = {name: values[chains] for name, values in samples.observables.items()}
    states = None
    if samples.chains is not None:
        device = min(samples.chains.key.devices(), key=lambda one: one.id)
        states = jax.tree.map(lambda leaf: leaf[chains], jax.device_put(samples.chains, device))
    statistics = jax.tree.map(lambda leaf: leaf[chains], samples.statistics)
    found = samples.inspections[chains]
    if found:
        picked |= {"inspection": found[0], "inspections": found if len(set(found)) > 1 else ()}
    return replace(samples, observables=observables, statistics=statistics, chains=states, **picked)


def join(parts: list) -> Any:
    """Traces of consecutive chunks, `(chain, draw, ...)` each, as one."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)


def collect(
    chains: ChainState,
    burnin: list,
    draws: list,
    acceptance: np.ndarray,
    settings: ChainSettings,
    baseline: str,
    number: np.ndarray | None,
    inspections: list[Inspection],
) -> Samples:
    """The stored traces and final chains as `Samples`; `number` is the baseline where it is one number a chain, `(chain,)`."""
    num_chains = len(settings.step_size)
    trace = join(draws)
    constant = np.full((num_chains, 1), np.nan) if number is None else number[:, None]
    loss = np.asarray(trace.loss, np.float64)
    # Paired differences were taken example by example; the baseline is what makes the two agree.
    with np.errstate(invalid="ignore"):
        center_loss = constant if number is not None else loss - np.asarray(trace.excess, np.float64)
    early = np.zeros((num_chains, 0))
    if burnin:
        warmup = join(burnin)
        early = np.asarray(warmup.loss if number is not None else warmup.excess, np.float64)
        early = early - constant if number is not None else early
    sampled = jax.tree.map(lambda leaf: leaf[0], chains.kernel_state.params)
    return Samples(
        loss=loss,
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
        inspection=inspections[0],
        inspections=tuple(inspections) if any(one != inspections[0] for one in inspections) else (),
    )
