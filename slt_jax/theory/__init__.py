"""What is known exactly: learning coefficients, of linear networks also at one point, of programs; the bias of SGLD; and the
moments of posteriors that are Gaussian or have few dimensions.

Every estimator of this library is tested against this module. Pure Python, numpy and fractions; no jax.
"""

from slt_jax.theory.gaussian import (
    Gaussian,
    Quadratics,
    linear_regression_losses,
    local_gaussian,
    log_mean_exponential,
)
from slt_jax.theory.linear_networks import deep_linear_network, reduced_rank_regression
from slt_jax.theory.local import (
    LocalLearningCoefficient,
    deep_linear_network_local,
    normal_form,
    rank_pattern,
)
from slt_jax.theory.positive_polynomials import positive_polynomial
from slt_jax.theory.programs import (
    Atlas,
    ProgramLearningCoefficient,
    SynthesisProblem,
    TuringMachine,
    atlas,
    error_syndromes,
    program,
    solvers,
)
from slt_jax.theory.quadrature import (
    GridPosterior,
    LinearNetwork,
    NormalCrossing,
    SquaredUnit,
    grid_posterior,
    linear_network_posterior,
    normal_crossing_posterior,
    squared_unit,
    squared_unit_limit,
)
from slt_jax.theory.sgld_bias import finite_nbeta_llc, quadratic_sgld_llc
from slt_jax.theory.singular import (
    LearningCoefficient,
    constant_rank,
    normal_crossing,
    regular,
    relu_unit_zero_truth,
    sum_of_separate_variables,
    tanh_network_zero_truth,
)

__all__ = [
    "Atlas",
    "Gaussian",
    "GridPosterior",
    "LearningCoefficient",
    "LinearNetwork",
    "LocalLearningCoefficient",
    "NormalCrossing",
    "ProgramLearningCoefficient",
    "Quadratics",
    "SquaredUnit",
    "SynthesisProblem",
    "TuringMachine",
    "atlas",
    "constant_rank",
    "deep_linear_network",
    "deep_linear_network_local",
    "error_syndromes",
    "finite_nbeta_llc",
    "grid_posterior",
    "linear_network_posterior",
    "linear_regression_losses",
    "local_gaussian",
    "log_mean_exponential",
    "normal_crossing",
    "normal_crossing_posterior",
    "normal_form",
    "positive_polynomial",
    "program",
    "quadratic_sgld_llc",
    "rank_pattern",
    "reduced_rank_regression",
    "regular",
    "relu_unit_zero_truth",
    "solvers",
    "squared_unit",
    "squared_unit_limit",
    "sum_of_separate_variables",
    "tanh_network_zero_truth",
]
