"""Programs as singularities: exact learning coefficients of noisy Turing machines.

A deterministic machine that solves a synthesis problem is a corner of the product of simplices of noisy codes, and the
learning coefficient there is the fractional hitting number of its error syndromes. `docs/programs.md` derives it.
"""

from slt_jax.theory.programs.coefficient import ProgramLearningCoefficient, coefficients, program
from slt_jax.theory.programs.exhaustion import Atlas, atlas, solvers
from slt_jax.theory.programs.machine import Error, SynthesisProblem, TuringMachine, used_tuples, wrong_values
from slt_jax.theory.programs.semantics import SEMANTICS, Code, Probabilities, output_weights
from slt_jax.theory.programs.syndromes import error_syndromes

__all__ = [
    "SEMANTICS",
    "Atlas",
    "Code",
    "Error",
    "Probabilities",
    "ProgramLearningCoefficient",
    "SynthesisProblem",
    "TuringMachine",
    "atlas",
    "coefficients",
    "error_syndromes",
    "output_weights",
    "program",
    "solvers",
    "used_tuples",
    "wrong_values",
]
