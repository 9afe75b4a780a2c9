"""The arguments of `sample` and its kin: refused in one sentence before anything is compiled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.arguments import check_array, check_count, check_number, comes_from, describe, is_traced
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.inspection import Inspection
from slt_jax.sampling.metrics import Metric
from slt_jax.sampling.samples import ChainSettings
from slt_jax.sampling.statistics import Statistic
from slt_jax.trees import leaf_name, leaves_with_path

__all__ = ["check_centers", "check_kernel", "check_metric", "check_on_host", "check_options", "check_settings"]

RECORDED = ("loss", "center_loss", "grad_norm", "burnin_excess")
"""What every chain records, under these names; an observable has another."""


def check_on_host(caller: str, *trees: Any) -> None:
    """Refuse a call from inside a JAX transformation.

    Raises:
        TypeError: if an argument is traced, or `caller` is called while `jit` traces.
        ValueError: under `jax.disable_jit`.
    """
    if jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        raise ValueError(
            f"{caller} cannot run under jax.disable_jit: its chains are compiled loops; to look inside loss_fn, call it on a "
            "batch, or step a kernel by hand"
        )
    if any(is_traced(leaf) for _, leaf in leaves_with_path(trees)) or is_traced(jnp.zeros(())):
        raise TypeError(
            f"{caller} runs on the host, not under jit, vmap or grad: it saves, counts and shows progress; inside a transformation "
            "call init_chain and run, which are pure"
        )


def check_options(
    posterior: LocalPosterior,
    *,
    observables: Any,
    statistics: Any,
    baseline: Any,
    layout: Any,
    devices: Any,
    state_path: Any,
    should_stop: Any,
    inspection: Any,
) -> None:
    """Refuse options of `sample` that are of the wrong kind or cannot be used; `posterior` has been checked.

    Raises:
        TypeError, ValueError: one sentence, naming the option.
    """
    _check_observables(observables, posterior)
    _check_statistics(statistics)
    _check_baseline(baseline)
    if not callable(should_stop):
        raise TypeError(
            f"should_stop is {describe(should_stop)}; give a function without arguments that returns a truth value"
        )
    if not (inspection is None or isinstance(inspection, bool | Inspection)):
        raise TypeError(f"inspection is {describe(inspection)}; give True, False, or what `inspect` returned")
    _check_layout(layout)
    _check_devices(devices)
    _check_state_path(state_path)


def check_kernel(kernel: Any) -> None:
    """Refuse what is not a kernel with its settings.

    Raises:
        TypeError: if it has no `init` and `step`, or cannot be hashed; also for a `batch_size` that is not a whole number.
        ValueError: if `batch_size` is below 1.
    """
    if isinstance(kernel, type) or not all(callable(getattr(kernel, name, None)) for name in ("init", "step")):
        called = isinstance(kernel, type) or callable(kernel)
        raise TypeError(
            f"kernel is {describe(kernel)}; {'call it' if called else 'give one'} with its settings, such as sgld(256)"
        )
    if comes_from(kernel, "blackjax") or not hasattr(kernel, "batch_size"):
        raise TypeError(
            f"kernel is {describe(kernel)}, without a batch_size; give a kernel of slt_jax, such as sgld(256), or one with its protocol"
        )
    try:
        hash(kernel)
    except TypeError:
        raise TypeError(
            f"kernel is {describe(kernel)} that cannot be hashed; make it a frozen dataclass without arrays"
        ) from None
    if kernel.batch_size is not None:
        check_count("batch_size of the kernel", kernel.batch_size)


def check_metric(metric: Any, rows: int) -> None:
    """Refuse a metric that does not act on the parameters that are sampled.

    Raises:
        TypeError: if it is not a `Metric`.
        ValueError: if it does not act on vectors of `rows` parameters, or its shapes disagree.
    """
    if not isinstance(metric, Metric):
        raise TypeError(f"metric is {describe(metric)}; give curvature_metric(key, posterior) or a Metric")
    for name in ("directions", "scales", "rest"):
        check_array(f"metric.{name}", getattr(metric, name))
    shapes = jnp.shape(metric.directions), jnp.shape(metric.scales), jnp.shape(metric.rest)
    if shapes[0][:1] != (rows,):
        raise ValueError(
            f"metric.directions has shape {shapes[0]} and the posterior {rows} parameters to sample; make the metric of this "
            "posterior with curvature_metric(key, posterior)"
        )
    if len(shapes[0]) != 2 or shapes[1] != shapes[0][1:] or shapes[2] != ():
        raise ValueError(
            f"metric has directions {shapes[0]}, scales {shapes[1]} and rest {shapes[2]}; they must be (parameters, rank), "
            "(rank,) and ()"
        )


def _check_observables(observables: Any, posterior: LocalPosterior) -> None:
    """Refuse observables that cannot be recorded under their names; each is traced once."""
    if observables is None:
        return
    if not isinstance(observables, Mapping):
        raise TypeError(f"observables is {describe(observables)}; give a dict of name -> function of the parameters")
    params = jax.eval_shape(posterior.full_params, posterior.center)
    for name, observable in observables.items():
        if not isinstance(name, str):
            raise TypeError(f"observables has the name {describe(name)}; names are strings")
        if name in RECORDED:
            raise ValueError(f"observables has the name '{name}', which every chain records itself; give it another")
        if not callable(observable):
            raise TypeError(f"observables['{name}'] is {describe(observable)}; give a function of the parameters")
        value = jax.eval_shape(observable, params)
        if not hasattr(value, "shape"):
            raise TypeError(f"observables['{name}'] returned {describe(value)}; it must return one array")


def _check_statistics(statistics: Any) -> None:
    """Refuse what is no statistic under a name."""
    if statistics is None:
        return
    if not isinstance(statistics, Mapping):
        raise TypeError(f"statistics is {describe(statistics)}; give a dict of name -> statistic")
    for name, statistic in statistics.items():
        if not isinstance(statistic, Statistic):
            raise TypeError(
                f"statistics['{name}'] is {describe(statistic)}; give what cross_moments or example_moments return (a function of "
                "the parameters is an observable)"
            )


def _check_baseline(baseline: Any) -> None:
    """Refuse a baseline that is neither a rule nor a number."""
    if baseline is None or isinstance(baseline, bool):
        raise TypeError(f"baseline is {describe(baseline)}; give 'paired', 'full' or a real number")
    if not isinstance(baseline, str):
        check_number("baseline", baseline, least=None)
    elif baseline not in ("paired", "full"):
        raise ValueError(f"baseline = '{baseline}'; it must be 'paired', 'full' or a number")


def _check_layout(layout: Any) -> None:
    """Refuse a layout that is not one of the two."""
    if layout is not None and not (isinstance(layout, str) and layout in ("vmap", "map")):
        raise ValueError(
            f"layout is {describe(layout)}; it must be 'vmap' (all chains at once) or 'map' (one after another)"
        )


def _check_devices(devices: Any) -> None:
    """Refuse devices that chains cannot be spread over."""
    if devices is None:
        return
    given = list(devices) if isinstance(devices, list | tuple | np.ndarray) else None
    if given is None or not all(isinstance(device, jax.Device) for device in given):
        culprit = devices if given is None else next(one for one in given if not isinstance(one, jax.Device))
        raise TypeError(
            f"devices {'is' if given is None else 'holds'} {describe(culprit)}; give a list such as jax.devices()"
        )
    if not given:
        raise ValueError("devices is empty; give a list such as jax.devices(), or None for all")
    if len(set(given)) < len(given):
        raise ValueError("devices names a device twice; chains are spread over distinct devices")


def _check_state_path(state_path: Any) -> None:
    """Refuse a path at which no file can be."""
    if state_path is None:
        return
    if not isinstance(state_path, str | Path):
        raise TypeError(f"state_path is {describe(state_path)}; give the path of a file")
    if Path(state_path).is_dir():
        raise ValueError(f"state_path '{state_path}' is a folder; give the path of a file in it, such as state.npz")


def check_centers(centers: Any, posterior: LocalPosterior) -> int:
    """How many centers are stacked in `centers`.

    Raises:
        TypeError: if a leaf is not an array.
        ValueError: if `centers` is not a stack of trees like the center of `posterior`.
    """
    like = posterior.center if posterior.whole is None else posterior.whole
    advice = "stack them with jax.tree.map(lambda *leaves: jnp.stack(leaves), *checkpoints)"
    structure: Any = jax.tree.structure(like)
    if structure != jax.tree.structure(centers):
        raise ValueError(
            f"centers is {describe(centers)} of another structure than the center; give one tree whose leaves have a leading "
            f"checkpoint axis: {advice}"
        )
    counts = set()
    for (path, leaf), own in zip(leaves_with_path(centers), jax.tree.leaves(like), strict=True):
        name = leaf_name("centers", path)
        check_array(name, leaf)
        if jnp.shape(leaf)[1:] != jnp.shape(own) or jnp.ndim(leaf) != jnp.ndim(own) + 1 or leaf.dtype != own.dtype:
            raise ValueError(
                f"{name} has shape {jnp.shape(leaf)} and dtype {leaf.dtype}; it must be (checkpoints, "
                f"{', '.join(map(str, jnp.shape(own)))}) of {own.dtype}, as in the center: {advice}"
            )
        counts.add(jnp.shape(leaf)[0])
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"centers hold {sorted(counts)} checkpoints; give one number, at least 1, in every leaf")
    return counts.pop()


def check_settings(settings: Any) -> int:
    """The number of chains, if every chain has its settings.

    Raises:
        TypeError: if it is not `ChainSettings`.
        ValueError: if leading axes disagree, there is no chain, or a value is out of range.
    """
    if not isinstance(settings, ChainSettings):
        raise TypeError(f"settings is {describe(settings)}; give ChainSettings(step_size, nbeta, localization)")
    shapes = {name: jnp.shape(getattr(settings, name)) for name in ("step_size", "nbeta", "localization")}
    lengths = {shape[:1] for shape in shapes.values()} | {
        jnp.shape(leaf)[:1] for leaf in jax.tree.leaves((settings.restriction, settings.center, settings.stream))
    }
    if any(len(shape) != 1 for shape in shapes.values()) or len(lengths) != 1 or lengths == {(0,)}:
        raise ValueError(f"settings have shapes {shapes}; every setting needs one value for each chain, (chains,)")
    for name, allowed in {"step_size": "positive", "nbeta": "positive", "localization": "non-negative"}.items():
        values = np.asarray(getattr(settings, name), np.float64)
        bad = ~np.isfinite(values) | (values < 0) | ((values == 0) if allowed == "positive" else False)
        if bad.any():
            raise ValueError(f"{name} = {values[bad][0]}; it must be finite and {allowed}")
    return shapes["step_size"][0]
