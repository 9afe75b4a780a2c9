"""`LLCEstimate` as something to keep: plain values for JSON, an xarray dataset, a file, a notebook's view."""

import math
from dataclasses import MISSING, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from slt_jax.sampling.archive import read_archive, write_archive
from slt_jax.sampling.notebook import MOST_CHAINS, table, trace_svg, view

if TYPE_CHECKING:
    import xarray

    from slt_jax.estimators.llc import LLCEstimate

__all__ = ["estimate_from_dict", "estimate_to_dict", "estimate_to_xarray", "estimate_view", "load_estimate", "save_estimate"]  # fmt: skip

DESCRIPTIONS = {
    "mean": "local learning coefficient",
    "std_error": "Monte Carlo standard error of the LLC",
    "rhat": "rank-normalised split R-hat",
    "ess": "effective number of independent draws",
    "drift": "LLC of the second half of the draws minus that of the first",
    "drift_std_error": "standard error of the drift",
    "acceptance": "mean Metropolis acceptance of the step",
}


def estimate_to_dict(estimate: "LLCEstimate") -> dict[str, Any]:
    """See `LLCEstimate.as_dict`."""
    return {field.name: _plain(field.name, getattr(estimate, field.name)) for field in fields(estimate)}


def _plain(name: str, value: Any) -> Any:
    """`value` in the types of JSON, which has neither NaN nor infinity."""
    if isinstance(value, np.ndarray | np.generic):
        return _plain(name, value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(name, each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}, which JSON has no type for")


def estimate_from_dict(cls: type["LLCEstimate"], values: dict[str, Any]) -> "LLCEstimate":
    """See `LLCEstimate.from_dict`."""
    known = {field.name: field for field in fields(cls)}
    needed = [name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING]
    wrong = [name for name in values if name not in known] + [name for name in needed if name not in values]
    if wrong:
        raise ValueError(f"these are not the values of an LLCEstimate: '{wrong[0]}' is unknown or missing")
    return cls(**{name: _restored(known[name].type, value) for name, value in values.items()})


def _restored(kind: Any, value: Any) -> Any:
    """The field of type `kind` that `_plain` made `value` of."""
    if kind is float:
        return float("nan" if value is None else value)
    if isinstance(value, list) and kind in (np.ndarray, np.ndarray | None):
        return np.asarray(value, bool) if _all_true_or_false(value) else np.asarray(value, np.float64)
    return value


def _all_true_or_false(values: list) -> bool:
    return bool(values) and all(isinstance(value, bool) for value in values)


def save_estimate(estimate: "LLCEstimate", path: Path | str) -> None:
    """See `LLCEstimate.save`."""
    write_archive(path, "LLCEstimate", estimate_to_dict(estimate), {})


def load_estimate(cls: type["LLCEstimate"], path: Path | str) -> "LLCEstimate":
    """See `LLCEstimate.load`."""
    return estimate_from_dict(cls, read_archive(path, "LLCEstimate")[0])


def estimate_to_xarray(estimate: "LLCEstimate") -> "xarray.Dataset":
    """See `LLCEstimate.to_xarray`."""
    import xarray

    variables: dict[str, Any] = {
        "llc" if name == "mean" else f"llc_{name}": ((), getattr(estimate, name), _described(text))
        for name, text in DESCRIPTIONS.items()
    }
    variables["llc_per_chain"] = ("chain", estimate.per_chain, _described("LLC of each chain"))
    variables["diverged"] = ("chain", estimate.diverged, _described("a value was not finite or the chain ran away"))
    variables["nbeta"] = ((), estimate.nbeta, _described("nβ", "1 / (units of loss_fn)"))
    variables["localization"] = ((), estimate.localization, _described("γ", "1 / (unit of the parameters)²"))
    variables["step_size"] = ((), estimate.step_size, _described("step size", "as the kernel means it"))
    coords = {"chain": ("chain", np.arange(len(estimate.per_chain)), _described("chain"))}
    if estimate.trace is not None:
        variables["llc_trace"] = (("chain", "block"), estimate.trace, _described("means of nβ (L - L(w*)) over blocks"))
        coords["block"] = ("block", np.arange(estimate.trace.shape[1]), _described("block of consecutive draws"))
    return xarray.Dataset(variables, coords, attrs={"status": estimate.status, "baseline": estimate.baseline})


def _described(long_name: str, units: str = "1") -> dict[str, str]:
    return {"long_name": long_name, "units": units}


def estimate_view(estimate: "LLCEstimate") -> str:
    """The HTML of an `LLCEstimate`: the number, its status, what is needed to trust it, its chains."""
    acceptance = "no such test" if math.isnan(estimate.acceptance) else f"{estimate.acceptance:.2f}"
    rows = [
        ("R-hat (near 1: the chains agree)", f"{estimate.rhat:.3f}"),
        ("independent draws (ESS)", f"{estimate.ess:.0f}"),
        ("drift, second half minus first", f"{estimate.drift:.2g} ± {estimate.drift_std_error:.2g}"),
        ("Metropolis acceptance of the step", acceptance),
        ("nβ, γ, step size", f"{estimate.nbeta:.4g}, {estimate.localization:.4g}, {estimate.step_size:.3g}"),
        ("baseline L(w*)", estimate.baseline),
        ("LLC of each chain", _chains(estimate)),
    ]
    trace = "" if estimate.trace is None else trace_svg(estimate.trace, hidden=estimate.diverged)
    status = f"<div>status: {escape(estimate.status)}</div>"
    return view(f"LLC {estimate.mean:.4g} ± {estimate.std_error:.2g}", status, table(rows), trace)


def _chains(estimate: "LLCEstimate") -> str:
    values = [
        "diverged" if lost else f"{value:.4g}"
        for value, lost in zip(estimate.per_chain, estimate.diverged, strict=True)
    ]
    more = f" and {len(values) - MOST_CHAINS} more" if len(values) > MOST_CHAINS else ""
    return ", ".join(values[:MOST_CHAINS]) + more
