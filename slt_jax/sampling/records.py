"""`Samples` as something to keep: as an xarray tree, as a file, equal to another by value."""

from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from slt_jax.sampling.archive import read_archive, write_archive
from slt_jax.sampling.inspection import Inspection

if TYPE_CHECKING:
    import xarray

    from slt_jax.sampling.samples import Samples

__all__ = ["block_means", "load_samples", "same", "same_fields", "samples_to_xarray", "save_samples"]

LONGEST_TRACE = 200
LOSS_UNITS = "units of loss_fn"
DRAWS = ("chain", "draw")


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; arrays by shape and value, NaN equal to NaN, dicts and lists element by element."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    if is_dataclass(one) and type(one) is type(other):
        return same_fields(one, other)
    arrays = [isinstance(value, np.ndarray | jax.Array) for value in (one, other)]
    if any(arrays):
        one, other = np.asarray(one), np.asarray(other)
        if not all(arrays) or one.shape != other.shape:
            return False
        if one.dtype == object or other.dtype == object:
            return same(one.ravel().tolist(), other.ravel().tolist())
        return bool(np.all((one == other) | ((one != one) & (other != other))))
    return bool(one == other) or bool(one != one and other != other)


def same_fields(one: Any, other: Any, *, but: tuple[str, ...] = ()) -> bool:
    """Whether two dataclass instances have equal fields (`same`), those named in `but` aside."""
    names = [field.name for field in fields(one) if field.name not in but]
    return all(same(getattr(one, name), getattr(other, name)) for name in names)


def block_means(values: np.ndarray) -> np.ndarray:
    """Means of at most 200 consecutive blocks of `(chain, draw)` values, whose lengths differ by at most one: `(chain, block)`."""
    draws = values.shape[1]
    blocks = min(LONGEST_TRACE, draws)
    starts = np.arange(blocks) * draws // max(blocks, 1)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = np.add.reduceat(values, starts, axis=1) if blocks else np.zeros((len(values), 0))
    return sums / np.diff(starts, append=draws)


def save_samples(samples: "Samples", path: Path | str) -> None:
    """See `Samples.save`."""
    if samples.statistics:
        raise ValueError(
            f"samples hold statistics ({', '.join(samples.statistics)}), which have no place in the file; keep what is made of "
            "them, such as covariance(samples, name), and save dataclasses.replace(samples, statistics={})"
        )
    arrays = {f"field/{name}": np.asarray(getattr(samples, name)) for name in _array_fields(type(samples))}
    arrays |= {f"observable/{name}": values for name, values in _observables(samples).items()}
    header = {
        "baseline": samples.baseline,
        "num_parameters": int(samples.num_parameters),
        "inspection": {name: _in_json(value) for name, value in asdict(samples.inspection).items()},
    }
    write_archive(path, "Samples", header, arrays)


def load_samples(cls: type["Samples"], path: Path | str) -> "Samples":
    """See `Samples.load`."""
    header, arrays = read_archive(path, "Samples")
    prefix = "observable/"
    observables = {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
    recorded: dict[str, Any] = {name: arrays[f"field/{name}"] for name in _array_fields(cls)}
    found = header.pop("inspection").items()
    values: dict[str, Any] = {name: float(value) if isinstance(value, str) else value for name, value in found}
    inspection = Inspection(**values)
    return cls(observables=observables, chains=None, inspection=inspection, **recorded, **header)


def _in_json(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become their names."""
    return value if not isinstance(value, float) or np.isfinite(value) else str(value)


def _array_fields(cls: type["Samples"]) -> list[str]:
    return [field.name for field in fields(cls) if field.type is np.ndarray]


def samples_to_xarray(samples: "Samples") -> "xarray.DataTree":
    """See `Samples.to_xarray`."""
    import xarray

    nbeta = samples.nbeta[:, None]
    posterior: dict[str, Any] = {
        "llc": (DRAWS, nbeta * samples.excess, _described("nβ (L - L(w*)), whose mean is the LLC", "1"))
    }
    for observable, values in _observables(samples).items():
        name = observable.replace("/", ".")
        if name in posterior or name in DRAWS:
            raise ValueError(f"two variables would be called '{name}'; give observable '{observable}' another name")
        if values.dtype.isbuiltin == 2:  # bfloat16 and its like, which xarray does not know
            values = values.astype(np.float32)
        dims = (*DRAWS, *(f"{name}_dim_{axis}" for axis in range(values.ndim - 2)))
        posterior[name] = (dims, values, _described(f"observable {observable}", "units of the observable"))
    groups = {
        "posterior": _with_coords(xarray.Dataset(posterior)),
        "sample_stats": _with_coords(xarray.Dataset(_sampler_variables(samples))),
        "settings": _with_coords(xarray.Dataset(_settings_variables(samples), attrs={"baseline": samples.baseline})),
    }
    early = samples.burnin_excess
    if early.shape[1]:
        excess = (DRAWS, early, _described("loss minus baseline during burn-in", LOSS_UNITS))
        llc = (DRAWS, nbeta * early, _described("nβ (L - L(w*)) during burn-in", "1"))
        groups["warmup_posterior"] = _with_coords(xarray.Dataset({"llc": llc}))
        groups["warmup_sample_stats"] = _with_coords(xarray.Dataset({"excess": excess}))
    return xarray.DataTree.from_dict(groups)


def _sampler_variables(samples: "Samples") -> dict[str, Any]:
    baseline = np.broadcast_to(samples.center_loss, samples.loss.shape).copy()
    return {
        "loss": (DRAWS, samples.loss, _described("mean minibatch loss", LOSS_UNITS)),
        "center_loss": (DRAWS, baseline, _described("baseline L(w*)", LOSS_UNITS)),
        "excess": (DRAWS, samples.excess, _described("loss minus baseline", LOSS_UNITS)),
        "grad_norm": (
            DRAWS,
            samples.grad_norm,
            _described("norm of the minibatch gradient of the loss", f"{LOSS_UNITS} / unit of the parameters"),
        ),
    }


def _settings_variables(samples: "Samples") -> dict[str, Any]:
    return {
        "nbeta": ("chain", samples.nbeta, _described("nβ", f"1 / ({LOSS_UNITS})")),
        "localization": ("chain", samples.localization, _described("γ", "1 / (unit of the parameters)²")),
        "step_size": ("chain", samples.step_size, _described("step size", "as the kernel means it")),
        "finite": ("chain", samples.finite, _described("every loss and gradient was finite", "1")),
        "acceptance": ("chain", samples.acceptance, _described("mean Metropolis acceptance of the step", "1")),
        "num_parameters": ((), samples.num_parameters, _described("number of scalars that were sampled", "1")),
    }


def _described(long_name: str, units: str) -> dict[str, str]:
    return {"long_name": long_name, "units": units}


def _with_coords(dataset: "xarray.Dataset") -> "xarray.Dataset":
    """`dataset` with every dimension numbered from 0."""
    numbered = {dim: (dim, np.arange(size), _described(str(dim), "1")) for dim, size in dataset.sizes.items()}
    return dataset.assign_coords(numbered)


def _observables(samples: "Samples") -> dict[str, np.ndarray]:
    for name, values in samples.observables.items():
        if not isinstance(values, np.ndarray | jax.Array):
            raise ValueError(f"observable '{name}' is a tree of arrays; make an observable of each array to keep it")
    return {name: np.asarray(values) for name, values in samples.observables.items()}
