"""The public names of `slt_jax`, by the page of the reference on which they stand.

What is not here is inside: it may change in any release. `tests/test_docstrings.py` says that nothing is left out.
"""

from importlib import import_module
from typing import NamedTuple


class Family(NamedTuple):
    """A page of the reference. A module's names are those it exports, unless they are given."""

    page: str
    title: str
    about: str
    modules: dict[str, tuple[str, ...]]


ALL: tuple[str, ...] = ()
FAMILIES = (
    Family(
        "llc",
        "Estimating an LLC",
        "One call, or the samples of your own choice; and a grid of settings in one program.",
        {"slt_jax.estimators.llc": ALL, "slt_jax.estimators.sweep": ALL},
    ),
    Family(
        "posterior",
        "The posterior and its parts",
        "What is sampled: a loss, its data, a trained parameter, nβ and γ; all weights or some.",
        {"slt_jax.posterior": ALL},
    ),
    Family(
        "samplers",
        "Samplers",
        "Kernels, preconditioners and metrics as values, and how their step is found.",
        {
            "slt_jax.sampling.sampler": ALL,
            "slt_jax.sampling.sgld": ALL,
            "slt_jax.sampling.underdamped": ALL,
            "slt_jax.sampling.sgnht": ALL,
            "slt_jax.sampling.preconditioners": ALL,
            "slt_jax.sampling.metrics": ALL,
            "slt_jax.sampling.calibration": ALL,
            "slt_jax.sampling.look": ("inspect",),
            "slt_jax.sampling.inspection": ALL,
            "slt_jax.sampling.base": ALL,
        },
    ),
    Family(
        "sampling",
        "Drawing samples",
        "Chains from the first step to the recorded draws, and whether they can be trusted.",
        {
            "slt_jax.sampling.driver": ALL,
            "slt_jax.sampling.checkpoints": ALL,
            "slt_jax.sampling.chains": ALL,
            "slt_jax.sampling.samples": ("ChainSettings", "Samples"),
            "slt_jax.sampling.statistics": ALL,
            "slt_jax.sampling.diagnostics": ALL,
            "slt_jax.sampling.recompilation": ("RecompilationWarning",),
        },
    ),
    Family(
        "covariances",
        "Covariances, influence, susceptibilities",
        "How observables move with the loss of single examples.",
        {"slt_jax.estimators.covariances": ALL},
    ),
    Family(
        "free_energy",
        "Free energies",
        "Free energies, WBIC, WAIC and the heat capacity; shares of phases.",
        {"slt_jax.estimators.free_energy": ALL},
    ),
    Family(
        "curvature",
        "Curvature",
        "Traces and spectra of the Hessian and the Fisher information, and the LLC of a quadratic loss.",
        {"slt_jax.estimators.curvature": ALL},
    ),
    Family(
        "theory",
        "Exact values",
        "Learning coefficients in exact fractions; posteriors by closed form and by quadrature.",
        {"slt_jax.theory": ALL, "slt_jax.theory.superposition": ALL},
    ),
    Family(
        "models",
        "Models",
        "Flax modules and small models whose learning coefficient is known.",
        {
            "slt_jax.models.singular": ALL,
            "slt_jax.models.deep_linear": ALL,
            "slt_jax.models.regression_transformer": ALL,
            "slt_jax.models.language_model": ALL,
            "slt_jax.models.layers": ALL,
            "slt_jax.models.superposition": ALL,
            "slt_jax.models.turing": ALL,
        },
    ),
    Family(
        "data",
        "Data",
        "In-context regression, linear teachers, text, synthetic sequences.",
        {
            "slt_jax.data.in_context_regression": ALL,
            "slt_jax.data.linear": ALL,
            "slt_jax.data.sequences": ALL,
            "slt_jax.data.text": ALL,
            "slt_jax.data.tokenizer": ALL,
            "slt_jax.data.packing": ALL,
            "slt_jax.data.corpus_statistics": ALL,
        },
    ),
    Family(
        "training",
        "Training",
        "A training loop whose resumed run gives the same bits, and its checkpoints.",
        {"slt_jax.training.loop": ALL, "slt_jax.training.checkpoints": ALL},
    ),
    Family(
        "analysis",
        "Analysis",
        "Stages of an LLC curve, paths in principal components, clusters of parts, what a model has learned.",
        {
            "slt_jax.analysis.stages": ALL,
            "slt_jax.analysis.smoothing": ALL,
            "slt_jax.analysis.essential_dynamics": ALL,
            "slt_jax.analysis.components": ALL,
            "slt_jax.analysis.regression_metrics": ALL,
            "slt_jax.analysis.language_metrics": ALL,
        },
    ),
    Family("plotting", "Plots", "Each draws on a matplotlib axes that you give.", {"slt_jax.plotting": ALL}),
    Family(
        "basics",
        "Types and trees",
        "The roles that everything is written against, and pytree algebra.",
        {"slt_jax.typing": ALL, "slt_jax.trees": ALL, "slt_jax.progress": ("Stopped",)},
    ),
)
INSIDE = {
    "slt_jax.analysis.ablation": "under the experiments self-repair and plasticity",
    "slt_jax.analysis.heads": "under the experiments self-repair and plasticity",
    "slt_jax.analysis.regression": "under the experiments self-repair and plasticity",
    "slt_jax.arguments": "checks of arguments",
    "slt_jax.backend": "what depends on the kind of device",
    "slt_jax.files": "writing files whole",
    "slt_jax.identity": "how equal settings are told",
    "slt_jax.inputs": "checks of data and parameters",
    "slt_jax.linalg": "under curvature and metrics",
    "slt_jax.restrictions": "public as slt_jax.posterior",
    "slt_jax.sampling.archive": "under save and load",
    "slt_jax.sampling.center": "under the look at w*",
    "slt_jax.sampling.chain_looks": "under the look at w*",
    "slt_jax.sampling.checks": "checks of arguments",
    "slt_jax.sampling.layout": "how chains lie on devices",
    "slt_jax.sampling.noise": "under the kernels",
    "slt_jax.sampling.notebook": "under the notebook views",
    "slt_jax.sampling.pilot": "under calibration",
    "slt_jax.sampling.records": "under save and load",
    "slt_jax.sampling.state": "under state_path",
    "slt_jax.sampling.storage": "under state_path",
    "slt_jax.sampling.tuned": "public as slt_jax.sampling.sampler",
    "slt_jax.estimators.block_estimates": "public as slt_jax.estimators.covariances",
    "slt_jax.estimators.fluctuation": "public as slt_jax.estimators.free_energy",
    "slt_jax.estimators.integration": "public as slt_jax.estimators.free_energy",
    "slt_jax.estimators.jackknife": "under covariances and free energies",
    "slt_jax.estimators.records": "under save and load",
    "slt_jax.theory.gaussian": "public as slt_jax.theory",
    "slt_jax.theory.linear_networks": "public as slt_jax.theory",
    "slt_jax.theory.local": "public as slt_jax.theory",
    "slt_jax.theory.polyhedra": "under positive polynomials",
    "slt_jax.theory.positive_polynomials": "public as slt_jax.theory",
    "slt_jax.theory.programs": "public as slt_jax.theory",
    "slt_jax.theory.programs.coefficient": "public as slt_jax.theory",
    "slt_jax.theory.programs.exhaustion": "public as slt_jax.theory",
    "slt_jax.theory.programs.machine": "public as slt_jax.theory",
    "slt_jax.theory.programs.semantics": "under programs",
    "slt_jax.theory.programs.syndromes": "public as slt_jax.theory",
    "slt_jax.theory.quadrature": "public as slt_jax.theory",
    "slt_jax.theory.self_repair": "under the experiment self-repair",
    "slt_jax.theory.self_repair_values": "under the experiment self-repair",
    "slt_jax.theory.sgld_bias": "public as slt_jax.theory",
    "slt_jax.theory.singular": "public as slt_jax.theory",
}
"""Modules whose names are not public by that module, and why."""


def names_of(module: str, given: tuple[str, ...]) -> list[str]:
    """The public names of a module: `given`, or what it exports but for checks that modules share (`check_...`)."""
    exported = import_module(module).__all__
    return list(given) or [name for name in exported if not name.startswith("check_")]


def public_names() -> list[tuple[Family, str, str]]:
    """Every public name as (family, module, name)."""
    return [
        (family, module, name)
        for family in FAMILIES
        for module, given in family.modules.items()
        for name in names_of(module, given)
    ]
