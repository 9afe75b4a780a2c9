"""Free energies of the populations beside the two other roads of `check`, from storage alone."""

from typing import NamedTuple

import numpy as np
import xarray

from experiments.superposition.selection import Pooled

__all__ = ["Comparison", "Row", "alone", "from_prior"]

FEWEST_WORTH = 100


class Row(NamedTuple):
    """One free energy by two roads, with their standard errors."""

    what: str
    n: int
    found: float
    error: float
    other: float
    other_error: float

    @property
    def score(self) -> float:
        """Their distance in joint standard errors."""
        return (self.found - self.other) / float(np.hypot(self.error, self.other_error))


class Comparison(NamedTuple):
    """What was compared."""

    rows: list[Row]

    @property
    def scores(self) -> np.ndarray:
        """Distances in joint standard errors."""
        return np.array([row.score for row in self.rows])


def from_prior(results: xarray.Dataset) -> Comparison:
    """The whole integral beside draws of the prior, where these are worth enough."""
    whole, error = _log_mean(results.free_energy.values, axis=0)
    return Comparison([
        Row("whole", int(n), whole[i], error[i], float(results.prior_free_energy[i]), float(results.prior_std_error[i]))
        for i, n in enumerate(results.n.values) if results.prior_effective_draws[i] >= FEWEST_WORTH
    ])  # fmt: skip


def alone(results: xarray.Dataset, families: Pooled) -> Comparison:
    """The 5-gons and the 6-gon beside each by itself, and the difference of the two; families 1 and 2 of `families`."""
    value, error = _log_mean(results.alone_free_energy.values, axis=-1)  # (checked_n, family)
    rows = []
    for j, n in enumerate(results.checked_n.values):
        i = int(np.flatnonzero(results.n.values == n)[0])
        found, spread = families.free_energy[i, 1:3], families.free_energy_error[i, 1:3]
        gap, gap_error = value[j, 0] - value[j, 1], float(np.hypot(*error[j]))
        # a family without a particle has an infinite free energy and nothing to compare
        rows += [
            Row(str(name), int(n), found[k], spread[k], value[j, k], error[j, k])
            for k, name in enumerate(results.family.values)
            if np.isfinite([found[k], spread[k], value[j, k], error[j, k]]).all()
        ]
        if np.isfinite([families.lead[i], families.lead_error[i], gap, gap_error]).all():
            rows.append(
                Row(
                    " minus ".join(results.family.values),
                    int(n),
                    families.lead[i],
                    families.lead_error[i],
                    gap,
                    gap_error,
                )
            )
    return Comparison(rows)


def _log_mean(energies: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """-log of the mean of exp(-energy) over independent populations, and its standard error."""
    lowest = energies.min(axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        masses = np.exp(lowest - energies)
    mean, count = masses.mean(axis=axis), energies.shape[axis]
    return lowest.squeeze(axis) - np.log(mean), masses.std(axis=axis, ddof=1) / np.sqrt(count) / mean
