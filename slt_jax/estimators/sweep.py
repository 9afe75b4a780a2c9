"""A sweep over (step_size, nbeta, localization): how far an LLC depends on them, from one compiled program.

An estimate is to be trusted where the map is level: along the step size once the discretisation no longer counts, along
γ once it holds the chain without pulling it in. `slt_jax.plotting.plot_heat_map` draws a face of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.arguments import check_count, check_number, describe
from slt_jax.estimators.llc import LLCEstimate, llc
from slt_jax.posterior import LocalPosterior, check_scalars
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.checks import check_on_host
from slt_jax.sampling.driver import sample_chains
from slt_jax.sampling.records import same_fields
from slt_jax.sampling.samples import ChainSettings, select_chains
from slt_jax.typing import PRNGKey

__all__ = ["Sweep", "sweep"]


@dataclass(frozen=True, eq=False)
class Sweep:
    """LLC estimates on a grid; every array has axes `(step_size, nbeta, localization)`.

    Two are equal (`==`) if the axes and all estimates are, NaN to NaN. Arrays can be written to, so a sweep has no hash.

    Attributes:
        step_sizes, nbetas, localizations: the grid's axes.
        estimates: object array of `LLCEstimate`.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> found = slt_jax.sweep(jax.random.key(0), posterior, slt_jax.sgld(None), step_sizes=[1e-3], num_draws=50)
        >>> found.mean.shape, found.rhat.shape, found.estimates[0, 0, 0].nbeta
        ((1, 1, 1), (1, 1, 1), 100.0)
    """

    step_sizes: np.ndarray
    nbetas: np.ndarray
    localizations: np.ndarray
    estimates: np.ndarray

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other) if isinstance(other, Sweep) else NotImplemented

    @property
    def mean(self) -> np.ndarray:
        """λ̂; NaN where a chain diverged."""
        return self._gather("mean")

    @property
    def std_error(self) -> np.ndarray:
        """Monte Carlo standard error of `mean`."""
        return self._gather("std_error")

    @property
    def rhat(self) -> np.ndarray:
        """Rank-normalised split R-hat."""
        return self._gather("rhat")

    @property
    def acceptance(self) -> np.ndarray:
        """Mean Metropolis acceptance; NaN for a kernel without such a test."""
        return self._gather("acceptance")

    def _gather(self, name: str) -> np.ndarray:
        values = [getattr(estimate, name) for estimate in self.estimates.ravel()]
        return np.asarray(values, np.float64).reshape(self.estimates.shape)


def sweep(
    key: PRNGKey,
    posterior: LocalPosterior,
    kernel: Kernel,
    *,
    step_sizes: Sequence[float],
    nbetas: Sequence[float] | None = None,
    localizations: Sequence[float] | None = None,
    num_chains: int = 2,
    **options: Any,
) -> Sweep:
    """LLC at every point of a grid of settings, all chains in one program.

    Args:
        key: typed PRNG key.
        posterior: what to sample; its nβ and γ are used where no axis is given for them.
        kernel: as in `sample`.
        step_sizes: in the kernel's own meaning.
        nbetas, localizations: values of nβ and γ.
        num_chains: chains per grid point.
        options: as in `sample`: `num_draws`, `num_burnin`, `thinning`, `baseline`, `metric`, `progress`, ...

    Raises:
        TypeError: if an axis is not a list of numbers, or as `sample`.
        ValueError: if an axis is empty or a value is out of range, or as `sample`; one sentence says which.

    Example:
        >>> import jax, slt_jax
        >>> from slt_jax.models.singular import quadratic
        >>> model = quadratic([1.0, 1.0])
        >>> posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, 100.0, 1.0)
        >>> found = slt_jax.sweep(jax.random.key(0), posterior, slt_jax.sgld(None), step_sizes=[1e-4, 1e-3],
        ...                       nbetas=[10.0, 100.0, 1000.0], num_draws=50)
        >>> found.mean.shape  # step sizes, nβ, γ
        (2, 3, 1)
    """
    check_on_host("sweep", key, posterior, step_sizes, nbetas, localizations)
    check_scalars(posterior)
    num_chains = check_count("num_chains", num_chains)
    axes = {
        "step_sizes": _axis("step_sizes", step_sizes),
        "nbetas": _axis("nbetas", [posterior.nbeta] if nbetas is None else nbetas),
        "localizations": _axis("localizations", [posterior.localization] if localizations is None else localizations),
    }
    shape = tuple(len(axis) for axis in axes.values())
    points = np.stack(np.meshgrid(*axes.values(), indexing="ij"), axis=-1).reshape(-1, 3)
    per_chain = jnp.asarray(np.repeat(points, num_chains, axis=0), jnp.float32)
    settings = ChainSettings(per_chain[:, 0], per_chain[:, 1], per_chain[:, 2])
    samples = sample_chains(key, posterior, kernel, settings, **options)
    estimates = np.empty(len(points), object)
    for index in range(len(points)):
        estimate: LLCEstimate = llc(select_chains(samples, slice(index * num_chains, (index + 1) * num_chains)))
        estimates[index] = estimate
    return Sweep(**axes, estimates=estimates.reshape(shape))


def _axis(name: str, values: Any) -> np.ndarray:
    """`values` as an axis of the grid, `(points,)`, in float64."""
    if not isinstance(values, list | tuple | range | np.ndarray | jax.Array):
        raise TypeError(f"{name} is {describe(values)}; give a list of numbers")
    shape = np.shape(values) if isinstance(values, np.ndarray | jax.Array) else (len(values),)
    if len(shape) != 1 or shape == (0,):
        raise ValueError(f"{name} has shape {shape}; give a list of at least one number")
    for value in values:
        check_number(name, value, above=name != "localizations")
    return np.asarray(values, np.float64)
