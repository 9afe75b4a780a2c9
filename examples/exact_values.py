"""Learning coefficients in exact fractions: models, one point of a deep linear network, a Turing machine.

python examples/exact_values.py
"""

import numpy as np

from slt_jax import theory

print("regular, 3 parameters:    ", theory.regular(3).learning_coefficient)
print("w1^2 w2^2:                ", theory.normal_crossing([1, 1]).learning_coefficient, "with multiplicity 2")
print("10-5-10 linear, rank 2:   ", theory.deep_linear_network([10, 5, 10], rank=2).learning_coefficient)

ranks = theory.rank_pattern([np.eye(2), np.zeros((2, 2))])  # of all partial products at W_1 = I, W_2 = 0
print("2-2-2 linear at this w*:  ", theory.deep_linear_network_local([2, 2, 2], ranks).learning_coefficient)
print("  at its deepest point:   ", theory.deep_linear_network([2, 2, 2], rank=0).learning_coefficient)

flip = theory.TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])  # writes the other symbol
problem = theory.SynthesisProblem([[0], [1]], [[1], [0]], steps=1, output=("square", 0))
found = theory.program(flip, problem)
print("a machine that flips bits:", found.learning_coefficient, "proved by", len(found.certificate), "error syndromes")

crossing = theory.normal_crossing([1, 1])
print("what an LLC of w1^2 w2^2 reads at nbeta = 1000:", round(theory.finite_nbeta_llc(crossing, 1000), 3))
