"""Singular learning theory in JAX: local learning coefficients with error bars you can trust.

    estimate = slt_jax.estimate_llc(key, loss_fn, params, data)

Names are loaded when they are first used, so that `import slt_jax` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Calibration": "slt_jax.sampling.calibration",
    "ChainState": "slt_jax.sampling.chains",
    "CurvatureMetric": "slt_jax.sampling.metrics",
    "Inspection": "slt_jax.sampling.inspection",
    "Kernel": "slt_jax.sampling.base",
    "LLCEstimate": "slt_jax.estimators.llc",
    "LocalPosterior": "slt_jax.posterior",
    "Metric": "slt_jax.sampling.metrics",
    "Preconditioner": "slt_jax.sampling.preconditioners",
    "Restriction": "slt_jax.posterior",
    "Sampler": "slt_jax.sampling.sampler",
    "Samples": "slt_jax.sampling.samples",
    "Tuned": "slt_jax.sampling.tuned",
    "adam": "slt_jax.sampling.preconditioners",
    "by_layer_and_slice": "slt_jax.restrictions",
    "by_path": "slt_jax.posterior",
    "by_slice": "slt_jax.posterior",
    "calibrate": "slt_jax.sampling.calibration",
    "covariance": "slt_jax.estimators.covariances",
    "cross_moments": "slt_jax.sampling.statistics",
    "curvature_metric": "slt_jax.sampling.metrics",
    "default_nbeta": "slt_jax.posterior",
    "estimate_llc": "slt_jax.estimators.llc",
    "example_moments": "slt_jax.sampling.statistics",
    "fluctuation": "slt_jax.estimators.free_energy",
    "free_energy": "slt_jax.estimators.free_energy",
    "heat_capacity": "slt_jax.estimators.free_energy",
    "influence": "slt_jax.estimators.covariances",
    "init_chain": "slt_jax.sampling.chains",
    "inspect": "slt_jax.sampling.look",
    "llc": "slt_jax.estimators.llc",
    "loss_kernel": "slt_jax.estimators.covariances",
    "restrict": "slt_jax.posterior",
    "rmsprop": "slt_jax.sampling.preconditioners",
    "run": "slt_jax.sampling.chains",
    "sample": "slt_jax.sampling.driver",
    "sample_checkpoints": "slt_jax.sampling.checkpoints",
    "sample_restrictions": "slt_jax.sampling.driver",
    "sgld": "slt_jax.sampling.sgld",
    "sgnht": "slt_jax.sampling.sgnht",
    "susceptibilities": "slt_jax.estimators.covariances",
    "sweep": "slt_jax.estimators.sweep",
    "underdamped": "slt_jax.sampling.underdamped",
    "wbic": "slt_jax.estimators.free_energy",
}
_MODULES = (
    "analysis",
    "data",
    "estimators",
    "models",
    "plotting",
    "posterior",
    "sampling",
    "theory",
    "training",
    "trees",
    "typing",
)

__all__ = [*_HOMES, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _MODULES:
        value = import_module(f"slt_jax.{name}")
    else:
        raise AttributeError(f"module 'slt_jax' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
