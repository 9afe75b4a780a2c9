"""Which models are measured, each with the value a perfect sampler would report at the given nβ and γ."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.known_models import exact
from slt_jax.data.linear import DeepLinearTeacher, random_deep_linear
from slt_jax.models import deep_linear, singular
from slt_jax.models.singular import KnownModel
from slt_jax.posterior import LocalPosterior
from slt_jax.theory import LearningCoefficient, deep_linear_network_local, quadratic_sgld_llc
from slt_lab.errors import UserError

__all__ = ["CURVATURES", "KNOWN", "Known", "check_names", "coefficient_of", "posterior_of"]

LINEAR_NETWORK = "linear-network-"

CURVATURES = (1.0, 0.5, 0.1, 0.01, 0.0)


class Known(NamedTuple):
    """A model, and nβ E[L] under its local posterior as a function of (nβ, γ)."""

    model: KnownModel
    exact: Callable[[float, float], float]


def _crossing(*exponents: int) -> Known:
    return Known(singular.normal_crossing(exponents), partial(exact.normal_crossing_llc, exponents))


def _reduced_rank(*dimensions: int) -> Known:
    return Known(singular.reduced_rank(*dimensions), partial(exact.reduced_rank_llc, *dimensions))


def _tanh(hidden_units: int) -> Known:
    model = singular.tanh_network(hidden_units)
    return Known(model, partial(exact.tanh_llc, hidden_units, np.asarray(model.data, np.float64)))


def _relu(input_dim: int) -> Known:
    return Known(singular.relu_unit(input_dim), partial(exact.relu_llc, input_dim))


KNOWN: dict[str, Callable[[], Known]] = {
    "quadratic": lambda: Known(
        singular.quadratic(CURVATURES), partial(quadratic_sgld_llc, np.array(CURVATURES), step_size=0.0)
    ),
    "quartic": partial(_crossing, 2),
    "crossing-1-1": partial(_crossing, 1, 1),
    "crossing-2-2": partial(_crossing, 2, 2),
    "crossing-1-1-1": partial(_crossing, 1, 1, 1),
    "reduced-rank-2-2-2": partial(_reduced_rank, 2, 2, 2),
    "reduced-rank-3-2-2": partial(_reduced_rank, 3, 2, 2),
    "tanh-1": partial(_tanh, 1),
    "tanh-2": partial(_tanh, 2),
    "tanh-3": partial(_tanh, 3),
    "relu-1": partial(_relu, 1),
    "relu-2": partial(_relu, 2),
}


def check_names(names: tuple[str, ...]) -> None:
    """Raise a `UserError` for a model that does not exist."""
    for name in names:
        seed = name.removeprefix(LINEAR_NETWORK)
        if name not in KNOWN and (seed == name or not (seed.isascii() and seed.isdigit())):
            raise UserError(f"there is no model '{name}'; there are: {', '.join(KNOWN)}, {LINEAR_NETWORK}SEED")


def posterior_of(name: str, nbeta: float, localization: float) -> LocalPosterior:
    """The local posterior of model `name` at its w*."""
    if name in KNOWN:
        model = KNOWN[name]().model
        return LocalPosterior(model.loss_fn, model.data, model.center, nbeta, localization)
    return _linear_network(int(name[len(LINEAR_NETWORK) :]), nbeta, localization)


def _linear_network(seed: int, nbeta: float, localization: float) -> LocalPosterior:
    """A random deep linear network of 2 or 3 layers and widths 3 to 6 at its own teacher, on white inputs."""
    teacher = _teacher(seed)
    center = deep_linear.params_of(tuple(jnp.asarray(matrix) for matrix in teacher.matrices))
    inputs = teacher.widths[0] ** 0.5 * jnp.eye(teacher.widths[0])
    outputs = deep_linear.DeepLinear(teacher.widths).apply({"params": center}, inputs)
    return LocalPosterior(deep_linear.mean_squared_error, {"x": inputs, "y": outputs}, center, nbeta, localization)


def coefficient_of(name: str) -> LearningCoefficient:
    """Exact (λ, m); of a linear network the local λ at its teacher, with the largest m it can have."""
    if name in KNOWN:
        return KNOWN[name]().model.coefficient
    teacher = _teacher(int(name[len(LINEAR_NETWORK) :]))
    local = deep_linear_network_local(teacher.widths, teacher.ranks)
    return LearningCoefficient(local.learning_coefficient, local.multiplicity_bound)


def _teacher(seed: int) -> DeepLinearTeacher:
    return random_deep_linear(seed, num_layers=(2, 3), widths=(3, 6))
