"""Learning coefficients of programs: the table, listed against searched syndromes, invariances, bounds, exhaustion."""

import doctest
import json
from fractions import Fraction
from functools import cache
from itertools import product
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from slt_jax import theory
from slt_jax.plotting import plot_step_table
from slt_jax.theory import LearningCoefficient, SynthesisProblem, TuringMachine, positive_polynomials
from slt_jax.theory.polyhedra import solve_covering
from slt_jax.theory.programs import (
    Code,
    Probabilities,
    coefficient,
    exhaustion,
    output_weights,
    syndromes,
    used_tuples,
    wrong_values,
)
from slt_jax.theory.programs import machine as machine_module
from slt_jax.theory.programs import semantics as semantics_module
from slt_jax.theory.programs.coefficient import coefficients
from slt_jax.theory.programs.machine import MOVES

VECTORS = json.loads((Path(__file__).parent / "data" / "programs.json").read_text())["vectors"]
SLOW = {f"{name}-quenched" for name in ("and-t4-short", "and-t4-long", "and-t5-short", "zero-then-one-t4-short")}
"""Under type checks the law over codes takes seconds."""
CASES = [(vector, semantics) for vector in VECTORS for semantics in vector["values"]]
NAMES = [f"{vector['name']}-{semantics}" for vector, semantics in CASES]
MARKED = [
    pytest.param(*case, id=name, marks=[pytest.mark.slow] if name in SLOW else [])
    for case, name in zip(CASES, NAMES, strict=True)
]
PAIRS = [[0, 0], [0, 1], [1, 0], [1, 1]]


def read(vector):
    machine = TuringMachine(vector["symbols"], vector["states"], vector["delta"])
    return machine, SynthesisProblem(vector["inputs"], vector["accepted"], vector["steps"], vector["output"])


def named(name):
    return read(next(vector for vector in VECTORS if vector["name"] == name))


def truth_table(outputs, steps):
    return SynthesisProblem(PAIRS, [[output] for output in outputs], steps)


def dot(exponents, weights):
    return sum(k * weights.get(error, 0) for error, k in exponents)


@cache
def found_for(name, semantics):
    return theory.program(*named(name), semantics)


@pytest.mark.parametrize(("vector", "semantics"), MARKED)
def test_programs_of_the_table(vector, semantics):
    machine, problem = read(vector)
    known = vector["values"][semantics]
    found = found_for(vector["name"], semantics)
    assert found.learning_coefficient == Fraction(known["nll"])
    # That the square halves λ is tested below, where its monomials can be listed.
    assert found.learning_coefficient / 2 == Fraction(known["squared_error"])
    assert found.multiplicity == known["multiplicity"]
    assert len(found.linear_syndromes) == known["linear_syndromes"]
    assert found.used_tuples == vector["used_tuples"]
    assert machine.dimension == vector["dimension"] == len(wrong_values(machine))
    assert found.learning_coefficient <= found.bound == found.used_tuples * (machine.symbols + machine.states)
    assert problem.steps == vector["steps"]


@pytest.mark.parametrize(("vector", "semantics"), MARKED)
def test_certificate_proves_the_value(vector, semantics):
    """Weak duality, from what the result holds and nothing else: no y is cheaper than Σz."""
    found = found_for(vector["name"], semantics)
    assert all(dot(syndrome, found.weights) >= 1 for syndrome in found.certificate)
    assert sum(found.certificate.values()) == sum(found.weights.values()) == found.learning_coefficient
    assert min(found.certificate.values()) > 0
    for error in wrong_values(read(vector)[0]):
        assert sum(z * dict(syndrome).get(error, 0) for syndrome, z in found.certificate.items()) <= 1


@pytest.mark.parametrize(
    ("vector", "semantics"),
    [case for case in CASES if case[0]["steps"] < 3],
    ids=lambda value: value if isinstance(value, str) else value["name"],
)
def test_squared_error_halves_the_coefficient(vector, semantics):
    """Against the table, and against the polynomial Σ e^(a+b) that the square of the failure probability is."""
    machine, problem = read(vector)
    known, errors = vector["values"][semantics], wrong_values(machine)
    found = theory.program(machine, problem, semantics, potential="squared_error")
    assert found.learning_coefficient == Fraction(known["squared_error"])
    assert (found.multiplicity, found.bound) == (
        known["multiplicity"],
        3 * found.used_tuples - Fraction(found.used_tuples, 2),
    )
    listed = [[s.get(e, 0) for e in errors] for s in theory.error_syndromes(machine, problem, semantics)]
    square = [[i + j for i, j in zip(a, b, strict=True)] for a in listed for b in listed]
    assert theory.positive_polynomial(square) == LearningCoefficient(found.learning_coefficient, found.multiplicity)


LONG_LISTS = {
    "detectA-n1-t3-gps", "detectA-n2-t3-gps", "detectA-n2-t4-naive", "detectA-n2-t4-gps", "detectA-n3-t4-naive",
    "detectA-n3-t4-gps", "and-t5-short-naive", "and-t5-short-gps", "xor-t5-long-naive", "xor-t5-long-gps",
    "and-gps-t5-long-gps", "and-gps-t5-short-gps", "and-gps-t5-short-naive",
}  # fmt: skip
"""Their syndromes take more than three seconds to list."""


@pytest.mark.parametrize(
    ("vector", "semantics"),
    [
        pytest.param(*case, id=name, marks=[pytest.mark.slow] if case[0]["steps"] > 3 else [])
        for case, name in zip(CASES, NAMES, strict=True)
        if name not in LONG_LISTS
    ],
)
def test_listed_syndromes_agree_with_cutting_planes(vector, semantics):
    machine, problem = read(vector)
    errors = wrong_values(machine)
    syndromes = theory.error_syndromes(machine, problem, semantics)
    listed = theory.positive_polynomial([[syndrome.get(error, 0) for error in errors] for syndrome in syndromes])
    found = found_for(vector["name"], semantics)
    assert listed == LearningCoefficient(found.learning_coefficient, found.multiplicity)
    # What the search found is divided by something that was listed, and its y hits all that was listed.
    assert all(dot(syndrome.items(), found.weights) >= 1 for syndrome in syndromes)
    for monomial in found.certificate:
        assert any(all(dict(monomial).get(e, 0) >= k for e, k in syndrome.items()) for syndrome in syndromes)


@pytest.mark.parametrize("semantics", ["naive", "gps", "markov", "quenched"])
@pytest.mark.parametrize("name", ["detectA-n2-t2", "detectA-n1-t3", "bit-t3-28/3"])
def test_syndromes_are_the_monomials_of_the_failure_probability(name, semantics):
    """On the ray e = s·u the failure probability goes like s^(least degree), with u that lets one syndrome at a time through."""
    machine, problem = named(name)
    syndromes = theory.error_syndromes(machine, problem, semantics)
    for syndrome in syndromes[:12]:
        near, far = (
            failure(machine, problem, semantics, dict.fromkeys(syndrome, Fraction(1, s))) for s in (10**6, 10**4)
        )
        degree = min(sum(other.values()) for other in syndromes if other.keys() <= syndrome.keys())
        assert float(far / near) == pytest.approx(100**degree, rel=0.05)


def failure(machine, problem, semantics, errors):
    """Exact mean failure probability at given error coordinates; the rest of each simplex is the right value."""
    code = code_with(machine, errors)
    total = Fraction(0)
    for word, accepted in zip(problem.inputs, problem.accepted, strict=True):
        outputs = output_weights(Probabilities(), code, problem, word, semantics)
        assert sum(outputs.values()) == 1
        total += sum((weight for output, weight in outputs.items() if output not in accepted), Fraction(0))
    return total / len(problem.inputs)


def code_with(machine, errors):
    parts = {"write": {}, "state": {}, "move": {}}
    for symbol, state, *right in machine.delta:
        for part, correct in zip(parts, right, strict=True):
            row = {e.value: p for e, p in errors.items() if e[:3] == (symbol, state, part)}
            parts[part][symbol, state] = {correct: 1 - sum(row.values(), Fraction(0)), **row}
    return Code(**parts)


def random_code(rng, symbols, states):
    def simplex(values):
        numbers = [Fraction(int(rng.integers(1, 50))) for _ in values]
        return {value: number / sum(numbers) for value, number in zip(values, numbers, strict=True)}

    pairs = list(product(range(symbols), range(states)))
    sizes = (range(symbols), range(states), MOVES)
    return Code(*({pair: simplex(values) for pair in pairs} for values in sizes))


@pytest.mark.parametrize("output", ["state", ("square", -1)])
def test_quenched_is_the_mean_over_deterministic_codes(output):
    """Against the definition: every deterministic code, run, weighed with its probability."""
    rng = np.random.default_rng(0)
    code = random_code(rng, 2, 1)
    problem = SynthesisProblem([[1, 0, 1]], [[0]], 3, output)
    expected = {}
    rows = list(product(range(2), range(1), MOVES))
    for first, second in product(rows, rows):
        weight = Fraction(1)
        for symbol, (b, r, d) in enumerate((first, second)):
            weight *= code.write[symbol, 0][b] * code.state[symbol, 0][r] * code.move[symbol, 0][d]
        tape, head, state = {0: 1, 1: 0, 2: 1}, 0, 0
        for _ in range(3):
            tape[head], state, move = (first, second)[tape.get(head, 0)]
            head += move
        value = state if output == "state" else tape.get(head - 1, 0)
        expected[value] = expected.get(value, 0) + weight
    assert output_weights(Probabilities(), code, problem, [1, 0, 1], "quenched") == expected


def test_markov_is_the_mean_over_paths():
    code = random_code(np.random.default_rng(1), 2, 2)
    problem = SynthesisProblem([[1, 0]], [[0]], 3, ("square", 1))
    expected = {}
    steps = list(product(range(2), range(2), MOVES))
    for path in product(steps, repeat=3):
        tape, head, state, weight = {0: 1}, 0, 0, Fraction(1)
        for b, r, d in path:
            pair = (tape.get(head, 0), state)
            weight *= code.write[pair][b] * code.state[pair][r] * code.move[pair][d]
            tape[head], state = b, r
            head += d
        value = tape.get(head + 1, 0)
        expected[value] = expected.get(value, 0) + weight
    assert output_weights(Probabilities(), code, problem, [1, 0], "markov") == expected


def test_semantics_agree_where_nothing_can_be_correlated_yet():
    """After one step from a certain configuration there is one match and nothing was drawn twice."""
    code = random_code(np.random.default_rng(2), 3, 2)
    for output in ("state", ("square", 0), ("square", 1)):
        problem = SynthesisProblem([[2, 1]], [[0]], 1, output)
        laws = [output_weights(Probabilities(), code, problem, [2, 1], name) for name in theory.programs.SEMANTICS]
        if output == "state":
            assert all(law == laws[0] for law in laws)
        else:
            # The symbol under the new head depends on the move and on what was written, drawn independently.
            assert all(law == laws[0] for law in laws)


def test_last_match_of_gps_by_hand():
    """Two steps: the state is q with p_q, the square under the head 0 or 1, and rows ask in the order (symbol, state)."""
    code = random_code(np.random.default_rng(3), 2, 2)
    problem = SynthesisProblem([[1]], [[0]], 2)
    p = code.state[1, 0]
    move, write = code.move[1, 0], code.write[1, 0]
    # All squares but the written one are blank, and the head is on it if it did not move.
    symbol = {1: move[0] * write[1], 0: 1 - move[0] * write[1]}
    match = {(a, q): symbol[a] * p[q] for a in (0, 1) for q in (0, 1)}
    idle, expected = Fraction(1), {0: Fraction(0), 1: Fraction(0)}
    for pair in [(1, 1), (1, 0), (0, 1), (0, 0)]:
        for r in (0, 1):
            expected[r] += idle * match[pair] * code.state[pair][r]
        idle *= 1 - match[pair]
    for q in (0, 1):
        expected[q] += idle * p[q]
    assert output_weights(Probabilities(), code, problem, [1], "gps") == expected


@pytest.mark.parametrize("semantics", ["naive", "markov", "quenched"])
@pytest.mark.parametrize("name", ["detectA-n1-t3", "detectA-n2-t3", "detectA-n1-t2"])
def test_renaming_symbols_changes_nothing(name, semantics):
    machine, problem = named(name)
    swapped = [0, 2, 1]
    renamed = SynthesisProblem(
        [[swapped[symbol] for symbol in word] for word in problem.inputs], problem.accepted, problem.steps
    )
    before, after = (
        theory.program(m, p, semantics) for m, p in ((machine, problem), (machine.renamed(symbols=swapped), renamed))
    )
    assert after.learning_coefficient == before.learning_coefficient
    assert after.multiplicity == before.multiplicity


def test_renaming_symbols_can_change_a_program_under_gps():
    """The order of the rows is part of gps: the last match wins. Both values are also those of the listed syndromes."""
    machine, problem = named("detectA-n1-t2")
    renamed = SynthesisProblem([[2], [1]], problem.accepted, problem.steps)
    found = []
    for m, p in ((machine, problem), (machine.renamed(symbols=[0, 2, 1]), renamed)):
        errors = wrong_values(m)
        listed = [[s.get(e, 0) for e in errors] for s in theory.error_syndromes(m, p, "gps")]
        program = theory.program(m, p, "gps")
        found.append(theory.positive_polynomial(listed))
        assert found[-1] == LearningCoefficient(program.learning_coefficient, program.multiplicity)
    assert found == [LearningCoefficient(Fraction(7), 4), LearningCoefficient(Fraction(13, 2), 2)]


@pytest.mark.parametrize("semantics", ["naive", "markov", "quenched"])
def test_renaming_states_changes_nothing(semantics):
    """Three states, of which the second and third change names; the accepted outputs change with them."""
    machine = TuringMachine(2, 3, [[0, 0, 0, 1, 1], [1, 0, 0, 2, 1], [0, 1, 1, 1, -1], [1, 1, 0, 2, 0], [0, 2, 0, 1, 0], [1, 2, 1, 2, -1]])  # fmt: skip
    problem = SynthesisProblem([[0, 1], [1, 0], [1, 1]], [[2], [1], [2]], 2)
    renamed = SynthesisProblem(problem.inputs, [[1], [2], [1]], 2)
    before = theory.program(machine, problem, semantics)
    after = theory.program(machine.renamed(states=[0, 2, 1]), renamed, semantics)
    assert machine.renamed(states=[0, 2, 1]) != machine
    assert (after.learning_coefficient, after.multiplicity) == (before.learning_coefficient, before.multiplicity)


def test_solvers_are_the_machines_that_solve():
    """Against running each of the 144 machines with two symbols and one state."""
    problem = SynthesisProblem([[0, 1], [1], [1, 1]], [[1], [0], [0, 1]], 2, ("square", 1))
    rows = list(product(range(2), range(1), MOVES))
    expected = []
    for first, second in product(rows, rows):
        machine = TuringMachine(2, 1, [(0, 0, *first), (1, 0, *second)])
        try:
            used_tuples(machine, problem)
        except ValueError:
            continue
        expected.append(machine)
    assert 0 < len(expected) < 36
    assert theory.solvers(problem, 2, 1) == expected


@pytest.mark.parametrize(
    ("outputs", "semantics", "shortest", "longer"),
    [
        ([0, 0, 0, 1], "gps", Fraction(23, 2), Fraction(167, 24)),
        ([0, 1, 1, 0], "markov", Fraction(11), Fraction(135, 14)),
        ([0, 1, 1, 0], "naive", Fraction(11), Fraction(10)),
    ],
    ids=["and-gps", "xor-markov", "xor-naive"],
)
def test_simple_against_short(outputs, semantics, shortest, longer):
    """All machines with two symbols and two states: the least λ belongs to a longer program."""
    found = theory.atlas(truth_table(outputs, 5), semantics)
    assert found.least() == {3: shortest, 4: longer}
    best = found.simple_against_short()[0]
    assert found.programs[best].learning_coefficient == longer
    for one in found.programs:
        assert one.learning_coefficient <= one.bound


def test_solving_together_is_solving_one_by_one():
    problem = truth_table([0, 0, 0, 1], 4)
    machines = theory.solvers(problem)[::120]
    for semantics in ("naive", "gps", "markov"):
        together = coefficients(machines, problem, semantics)
        for machine, found in zip(machines, together, strict=True):
            alone = theory.program(machine, problem, semantics)
            assert (alone.learning_coefficient, alone.multiplicity) == (found.learning_coefficient, found.multiplicity)


@pytest.mark.parametrize("semantics", ["naive", "markov"])
def test_padding_with_idle_states(semantics):
    """The uniform prior makes every machine heavier; one with unit error mass keeps some as they are, and not all."""
    machine, problem = named("bit-t3-best")
    values = {
        prior: [
            theory.program(machine.padded(k), problem, semantics, prior=prior).learning_coefficient for k in range(4)
        ]
        for prior in ("uniform", "unit-error-mass")
    }
    assert values == {"uniform": [5, 9, 12, 15], "unit-error-mass": [5, 5, 5, 5]}
    other = named("bit-t3-28/3")[0]
    mass = [theory.program(other.padded(k), problem, semantics, prior="unit-error-mass") for k in range(2)]
    assert [found.learning_coefficient for found in mass] == [Fraction(22, 3), Fraction(23, 3)]
    assert [found.bound for found in mass] == [9, 9]


def test_prior_puts_its_exponents_into_the_objective():
    machine, problem = named("bit-t3-28/3")
    uniform = theory.program(machine, problem, "markov")
    assert theory.program(machine, problem, "markov", prior="jeffreys").learning_coefficient == uniform.learning_coefficient / 2  # fmt: skip
    errors = wrong_values(machine)
    listed = [[s.get(e, 0) for e in errors] for s in theory.error_syndromes(machine, problem, "markov")]
    prior = [Fraction(-1, 2) if error.part == "move" else 0 for error in errors]
    found = theory.program(machine, problem, "markov", prior="unit-error-mass")
    assert theory.positive_polynomial(listed, prior) == LearningCoefficient(found.learning_coefficient, found.multiplicity)  # fmt: skip
    assert found.bound == 3 * found.used_tuples


@pytest.mark.parametrize("seed", range(5))
def test_positive_polynomial_is_a_normal_crossing_for_one_monomial(seed):
    rng = np.random.default_rng(seed)
    halves, prior = rng.integers(0, 4, 5), rng.integers(0, 3, 5)
    halves[0] = 1
    expected = theory.normal_crossing(halves.tolist(), prior.tolist())
    assert theory.positive_polynomial([(2 * halves).tolist()], prior.tolist()) == expected


def test_positive_polynomial_adds_over_separate_variables():
    one = theory.positive_polynomial([[2, 1], [0, 3]])
    other = theory.positive_polynomial([[1, 1]])
    both = theory.positive_polynomial([[2, 1, 0, 0], [0, 3, 0, 0], [0, 0, 1, 1]])
    assert both == theory.sum_of_separate_variables(one, other)


@pytest.mark.parametrize("seed", range(8))
def test_positive_polynomial_in_two_variables_against_all_vertices(seed):
    """The minimum is at a vertex, and there are few: where two of the constraints (or one and an axis) meet."""
    rng = np.random.default_rng(seed)
    rows = [*(tuple(row) for row in rng.integers(0, 5, (4, 2)).tolist() if any(row)), (7, 0), (0, 6)]
    c = [Fraction(int(x), 2) for x in rng.integers(1, 5, 2)]
    lines = [(*row, 1) for row in rows] + [(1, 0, 0), (0, 1, 0)]
    vertices = set()
    for (a, b, e), (p, q, f) in product(lines, lines):
        if a * q - b * p:
            y = (Fraction(e * q - b * f, a * q - b * p), Fraction(a * f - e * p, a * q - b * p))
            if min(y) >= 0 and all(a * y[0] + b * y[1] >= 1 for a, b in rows):
                vertices.add(y)
    values = [c[0] * y[0] + c[1] * y[1] for y in vertices]
    found = theory.positive_polynomial(rows, [x - 1 for x in c])
    assert found == LearningCoefficient(min(values), values.count(min(values)))


def test_squares_halve_the_coefficient_on_the_orthant_only():
    """(e1 + e2)²: on e ≥ 0 it is equivalent to e1² + e2² and has λ = 1; with signs it is one squared coordinate, ½."""
    assert theory.positive_polynomial([[2, 0], [1, 1], [0, 2]]) == LearningCoefficient(Fraction(1), 1)
    assert theory.normal_crossing([1, 0]) == LearningCoefficient(Fraction(1, 2), 1)


def test_volume_of_a_positive_polynomial():
    """K = xy + yz + zx on the unit cube: the volume of {K < t} goes like t^(3/2), measured by quadrature in x, y."""
    x = np.exp(np.linspace(np.log(1e-9), 0, 4001))
    logs = np.log(x)
    volumes = []
    for t in (1e-5, 1e-6):
        z = np.clip((t - np.multiply.outer(x, x)) / np.add.outer(x, x), 0, 1)
        volumes.append(np.trapezoid(np.trapezoid(z * np.multiply.outer(x, x), logs), logs))
    slope = np.log(volumes[0] / volumes[1]) / np.log(10)
    assert slope == pytest.approx(float(theory.positive_polynomial([[1, 1, 0], [0, 1, 1], [1, 0, 1]])[0]), abs=0.01)


def test_solve_covering_has_exact_points_of_both_programs():
    """A degenerate program: the whole edge between (1, 0) and (0, 1) is optimal, and one cut repeats another."""
    solved = solve_covering([Fraction(1), Fraction(1)], [[1, 1], [2, 2], [1, 1]])
    assert solved.value == 1
    assert len(solved.primal.directions) == 1
    assert min(solved.primal.point) > 0
    assert sum(solved.primal.point) == sum(solved.dual) == 1
    assert solved.dual[1] == 0
    assert min(solved.dual[0], solved.dual[2]) > 0


@pytest.mark.parametrize(
    "module", [positive_polynomials, machine_module, semantics_module, syndromes, coefficient, exhaustion]
)
def test_examples_in_docstrings_run(module):
    results = doctest.testmod(module)
    assert results.failed == 0
    assert results.attempted > 0


def test_step_table_shows_every_row():
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, ax = plt.subplots()
    machine, problem = named("and-t5-short")
    plot_step_table(ax, machine.delta, used_tuples(machine, problem))
    assert {text.get_position(): text.get_text() for text in ax.texts}[1, 0] == "write 0, stay\nstate 1"
    assert len(ax.texts) == len(ax.patches) == 4
    assert len({patch.get_facecolor() for patch in ax.patches[:3]}) == 1
    assert ax.patches[3].get_facecolor() != ax.patches[0].get_facecolor()
    plt.close(figure)


def test_the_page_s_example_prints_what_it_says(capsys):
    page = (Path(__file__).parents[1] / "docs" / "programs.md").read_text()
    block = page.split("```python\n")[1].split("```")[0]
    exec(compile(block, "docs/programs.md", "exec"), {})
    assert capsys.readouterr().out.split() == block.split("# ")[-1].split()


GOOD = [[0, 0, 1, 0, 1], [1, 0, 1, 0, 0]]


@pytest.fixture
def _without_the_type_checker_of_the_tests():
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.mark.usefixtures("_without_the_type_checker_of_the_tests")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TuringMachine(2, 1, GOOD[:1]), r"one row for each of the 2 pairs .* none for \(1, 0\)"),
        (lambda: TuringMachine(2, 1, [*GOOD, GOOD[0]]), "one of them twice"),
        (lambda: TuringMachine(2, 1, [GOOD[0], [1, 0, 2, 0, 0]]), "symbols below 2"),
        (lambda: TuringMachine(2, 1, [GOOD[0], [1, 0, 1, 0, 2]]), "a move of -1, 0 or 1"),
        (lambda: TuringMachine(2, 1, [GOOD[0], [1, 0, 1, 0]]), "five whole numbers"),
        (lambda: TuringMachine(2, 1, [GOOD[0], [1, 0, 1, 0, 0.5]]), "five whole numbers"),
        (lambda: TuringMachine(0, 1, []), "symbols must be at least 1"),
        (lambda: TuringMachine(2, 1, GOOD).renamed(symbols=[1, 0]), "keeps 0 in place"),
        (lambda: SynthesisProblem([[0], [1]], [[0]], 1), "2 inputs and 1 with accepted"),
        (lambda: SynthesisProblem([[0]], [[]], 1), "1 inputs and 0 with accepted"),
        (lambda: SynthesisProblem([[0]], [[0]], 0), "steps must be at least 1"),
        (lambda: SynthesisProblem([[0]], [[0]], 1, "tape"), "'state' or"),
        (lambda: theory.program(TuringMachine(2, 1, GOOD), SynthesisProblem([[2]], [[0]], 1)), "the symbol 2"),
        (lambda: theory.program(TuringMachine(2, 1, GOOD), SynthesisProblem([[1]], [[1]], 1)), "the output 1"),
        (
            lambda: theory.program(TuringMachine(2, 1, GOOD), SynthesisProblem([[1]], [[0]], 1, ("square", 0))),
            r"on input \[1\] it gives 1 after 1 steps where \[0\] is accepted",
        ),
        (lambda: theory.program(*named("bit-t3-best"), semantics="annealed"), "semantics must be one of naive, gps"),
        (lambda: theory.program(*named("bit-t3-best"), potential="mse"), "potential must be one of nll"),
        (lambda: theory.program(*named("bit-t3-best"), prior="flat"), "prior must be one of uniform"),
        (lambda: theory.solvers(SynthesisProblem([[0]], [[0]], 1), 3, 2), "34,012,224 machines"),
        (lambda: TuringMachine(2, 1, None), "delta must be a list of rows, got None"),
        (lambda: TuringMachine(2, 1, [GOOD[0], [1, 0, float("inf"), 0, 0]]), "five whole numbers"),
        (lambda: SynthesisProblem(None, [[0]], 1), "inputs must be a list of lists of symbols"),
        (lambda: SynthesisProblem([0, 1], [[0], [1]], 1), "each of inputs must be a list of symbols, got 0"),
        (lambda: SynthesisProblem([[0], [1]], [0, 1], 1), "each of accepted must be a list of outputs, got 0"),
        (lambda: SynthesisProblem([[0]], [[0]], 1, None), "'state' or"),
        (lambda: SynthesisProblem([[0]], [[0]], 1, ("square", 0.5)), "a whole number k"),
        (lambda: theory.positive_polynomial([[1, 0]], [0, float("nan")]), "numbers above -1"),
        (lambda: theory.positive_polynomial([]), "at least one list"),
        (lambda: theory.positive_polynomial([[0, 0]]), "must not hold a constant"),
        (lambda: theory.positive_polynomial([[1, 0], [1]]), "all of one length"),
        (lambda: theory.positive_polynomial([[1, 0]], [0, -1]), "numbers above -1"),
        (lambda: TuringMachine(2, 1, [[0, 0.5, 0, 1, 0, 1], GOOD[1]]), "five whole numbers"),
        (lambda: TuringMachine(10**5, 10**5, []), r"10000000000 pairs .* none for \(0, 0\)"),
        (lambda: TuringMachine(2, 1, GOOD).renamed(symbols=[0, None]), "symbols must be a whole number"),
        (lambda: TuringMachine(2, 1, GOOD).row(-1, 0), r"no row for \(-1, 0\)"),
        (lambda: TuringMachine(2, 1, GOOD).row(0, 1), "states below 1"),
        (lambda: theory.solvers(None), "problem must be a SynthesisProblem, got NoneType"),
        (lambda: theory.atlas(TuringMachine(2, 1, GOOD)), "problem must be a SynthesisProblem"),
        (lambda: theory.solvers(SynthesisProblem([[0]], [[0]], 1), 40, 40), r"more than 10\^15 machines"),
        (lambda: theory.program(*named("bit-t3-best"), ["markov"]), "semantics must be one of"),
        (lambda: theory.program(*named("bit-t3-best"), prior=["uniform"]), "prior must be one of"),
        (lambda: coefficients(*named("bit-t3-best")), "machines must be a list of machines, got one"),
    ],
)
def test_bad_input_gets_one_sentence(build, message):
    with pytest.raises(ValueError, match=message) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_without_the_type_checker_of_the_tests")
@pytest.mark.parametrize(
    ("monomials", "prior", "expected"),
    [
        ([[1, 1]], [0.1, 0.2], Fraction(11, 10)),
        ([[1, 1]], np.array([0.5, 0.75], np.float32), Fraction(3, 2)),
        ([[1]], np.array([127], np.int8), Fraction(128)),
        ([[1, 1, 0], [0, 1, 1], [1, 0, 1]], [0.1, 0.2, 0.3], Fraction(9, 5)),
        ([[10_000_019]], None, Fraction(1, 10_000_019)),
        # 123457 x + 3 y = 1 = 2 x + 234571 y at the minimum of x + y.
        ([[123_457, 3], [2, 234_571]], None, Fraction(234_568 + 123_455, 123_457 * 234_571 - 6)),
    ],
)  # fmt: skip
def test_floats_are_the_decimals_they_print_as_and_large_exponents_are_exact(monomials, prior, expected):
    assert theory.positive_polynomial(monomials, prior).learning_coefficient == expected


@pytest.mark.parametrize("exponents", [[10**20], [10**400]])
def test_what_floating_point_cannot_hold_is_said(exponents):
    with pytest.raises(ArithmeticError, match="too large, or too far apart"):
        theory.positive_polynomial([exponents])
