"""The experiment `programs`: finite values against quadrature, what guards are worth, and the tiny configuration."""

import dataclasses
import json
from fractions import Fraction

import jax
import numpy as np
import pytest

from configs.programs import CONFIGS, Tempering
from experiments import programs
from experiments.programs import correction, exact, measure, sampled
from experiments.programs.courses import crossing, leading_order, running_mean
from experiments.programs.machines import CASES, PROBLEMS, RIVALS, problem_named
from experiments.programs.quadrature import factors, one_step_values
from experiments.programs.tempering import free_energies, ladder_to
from slt_jax import theory
from slt_jax.theory import LearningCoefficient
from slt_jax.theory.programs import used_tuples
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder

ONE_STEP = CASES["detect-A, one step"]


def test_every_machine_solves_its_problem():
    for case in (*CASES.values(), *(case for rivals in RIVALS.values() for case in rivals)):
        assert used_tuples(case.machine, case.question)
    for each in correction.REDUNDANCY.values():
        assert used_tuples(each.machine, each.problem)


def test_quadrature_is_the_mean_over_the_prior():
    """Against plain Monte Carlo of amplitudes, at an nβ where the prior's draws reach the posterior."""
    nbeta, gamma, rng = 20.0, 10.0, np.random.default_rng(0)
    z = rng.standard_normal((400_000, 2, 2, 2)) / np.sqrt(gamma)  # (draw, input, value, part of the number)
    z[:, :, 0, 0] += 1
    weights = (z**2).sum(-1)
    energy = nbeta * -np.log(weights[..., 0] / weights.sum(-1)).mean(-1)
    likelihood = np.exp(-energy)
    value, free_energy = one_step_values(ONE_STEP.machine, ONE_STEP.question, nbeta, gamma)
    assert value == pytest.approx((energy * likelihood).sum() / likelihood.sum(), rel=5e-3)
    assert free_energy == pytest.approx(-np.log(likelihood.mean()), rel=5e-3)


@pytest.mark.parametrize(("exponent", "coefficient"), [(1.0, 2.0), (0.5, 1.0)])
def test_quadrature_tends_to_the_coefficient(exponent, coefficient):
    value, _ = one_step_values(ONE_STEP.machine, ONE_STEP.question, 1e8, 30.0, exponent)
    assert value == pytest.approx(coefficient, rel=1e-4)
    slope = np.diff([one_step_values(ONE_STEP.machine, ONE_STEP.question, n, 30.0, exponent)[1] for n in (1e7, 1e8)])
    assert slope / np.log(10) == pytest.approx(coefficient, rel=1e-4)


def test_quadrature_needs_a_loss_that_factors():
    case = CASES["bit, least λ"]
    assert factors(ONE_STEP.machine, ONE_STEP.question)
    assert not factors(case.machine, case.question)
    with pytest.raises(ValueError, match="must run one step"):
        one_step_values(case.machine, case.question, 10.0, 1.0)


@pytest.mark.parametrize("exponent", [1.0, 0.5])
def test_tempering_agrees_with_quadrature(exponent):
    """Value and free energy at two temperatures, for the flat prior and for one that is not flat in amplitudes."""
    ladder = ladder_to(1000.0, 1.6, (30.0,))
    budget = Tempering(particles=150, repeats=8)
    found = free_energies(
        jax.random.key(0), ONE_STEP.machine, ONE_STEP.question, "markov", 30.0, ladder, budget, {"state": exponent}
    )
    assert found.acceptance.min() > 0.5
    for nbeta in (30.0, 1000.0):
        at = list(found.nbeta).index(nbeta)
        value, energy = one_step_values(ONE_STEP.machine, ONE_STEP.question, nbeta, 30.0, exponent)
        assert abs(found.value[at] - value) < 4 * found.value_error[at]
        assert abs(found.free_energy[at] - energy) < 4 * found.free_energy_error[at]
        assert found.value_error[at] < 0.05 * value


def test_ladder_goes_through_its_stops_in_small_steps():
    ladder = ladder_to(1e4, 1.3, (100.0, 1000.0))
    assert {100.0, 1000.0, 1e4} <= set(ladder)
    ratios = ladder[1:] / ladder[:-1]
    assert 1 < ratios.min() <= ratios.max() <= 1.3 * (1 + 1e-9)


def test_crossing_is_where_the_longer_program_takes_over():
    nbeta = np.array([1.0, 10.0, 100.0, 1000.0])
    assert crossing(nbeta, np.array([0.0, 1.0, -1.0, -2.0])) == pytest.approx(10**1.5)
    assert crossing(nbeta, np.array([-1.0, -1.0, -1.0, -2.0])) == 0
    assert np.isnan(crossing(nbeta, np.array([-1.0, -1.0, -1.0, 2.0])))


def test_leading_order_is_the_free_energy_of_a_double_zero():
    """-log ∫∫ exp(-n x y) over the unit square has λ = 1, m = 2: exact by the exponential integral."""
    from scipy.special import exp1

    n = np.array([1e6, 1e12])
    integral = (np.log(n) + np.euler_gamma + exp1(n)) / n
    gap = np.diff(-np.log(integral)) - np.diff(leading_order(n, 1.0, 2))
    assert abs(gap) < 0.05


def test_running_mean_by_hand():
    np.testing.assert_allclose(running_mean(np.array([[1.0, 2.0, 6.0, 4.0]]), 2), [[1.5, 4.0, 5.0]])
    np.testing.assert_allclose(running_mean(np.array([[1.0, 2.0]]), 5), [[1.5]])


@pytest.mark.parametrize("served", [1, 2, 5])
def test_a_guard_that_serves_one_error_gains_multiplicity_alone(served):
    """k fatal errors, all of which now need that of one guard too: k becomes 1; for k = 1 nothing is gained but m."""
    plain = theory.positive_polynomial(np.eye(served, dtype=int).tolist())
    guarded = theory.positive_polynomial([[*row, 1] for row in np.eye(served, dtype=int).tolist()])
    assert plain == LearningCoefficient(Fraction(served), 1)
    assert guarded == LearningCoefficient(Fraction(1), 2 if served == 1 else 1)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 3), (2, 5)])
def test_a_guard_with_errors_of_its_own(first, second):
    """Each of k errors is fatal with each of the guard's l: the smaller number is λ, and where they are equal m grows."""
    rows = [[int(i == a) for i in range(first)] + [int(j == b) for j in range(second)] for a in range(first) for b in range(second)]  # fmt: skip
    expected = LearningCoefficient(Fraction(min(first, second)), 2 if first == second else 1)
    assert theory.positive_polynomial(rows) == expected


def test_an_error_that_has_to_happen_again_counts_a_fraction():
    assert theory.positive_polynomial([[3]]) == LearningCoefficient(Fraction(1, 3), 1)


@pytest.mark.parametrize(
    ("name", "semantics", "expected"),
    [
        ("unguarded", "markov", ("28/3", 1, 7)),
        ("guard with errors of its own", "markov", ("28/3", 2, 5)),
        ("guarded", "markov", ("5", 1, 2)),
        ("unguarded", "naive", ("28/3", 1, 8)),
        ("guarded", "naive", ("5", 1, 2)),
        ("guarded", "gps", ("5", 1, 2)),
    ],
)
def test_second_look(name, semantics, expected):
    machine, problem = correction.REDUNDANCY[f"second look, {name}"]
    found = theory.program(machine, problem, semantics)
    assert (str(found.learning_coefficient), found.multiplicity, len(found.linear_syndromes)) == expected
    assert found.used_tuples == 3


@pytest.mark.parametrize("semantics", ["naive", "gps", "markov"])
def test_a_vote_costs_more_than_a_look(semantics):
    look, vote = (correction.REDUNDANCY[f"three copies, {name}"] for name in ("one look", "vote"))
    assert look.problem == vote.problem
    values = [theory.program(*each, semantics).learning_coefficient for each in (look, vote)]
    assert values[1] > values[0]


def test_nearest_programs_are_those_of_the_rows():
    case = CASES["bit, largest λ"]
    table = np.array([row[2:] for row in case.machine.delta])
    rows = np.concatenate([table[:, 0], table[:, 1], table[:, 2] + 1])
    broken = rows.copy()
    broken[4:8] = 0  # every next state is the start, which answers 0 to the bit 1
    coefficients, lengths = sampled.nearest_programs(case, np.stack([rows, broken])[None])
    assert coefficients[0, 0] == 12.0
    assert lengths.tolist() == [[3, 0]]
    assert np.isnan(coefficients[0, 1])


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    config = CONFIGS["tiny"]()
    folder = RunFolder.open("programs", "tiny", config, tmp_path_factory.mktemp("runs") / "tiny")
    assert programs.EXPERIMENT.compute(config, folder) == []
    return folder


def test_summary_holds_the_atlas_and_every_estimate(tiny_run):
    summary = json.loads((tiny_run.path / "summary.json").read_text())
    (row,) = summary["atlas"]
    found = theory.atlas(problem_named("and", 3), "gps")
    assert row["solvers"] == summary["programs"] == len(found.programs)
    assert Fraction(row["shortest_coefficient"]) == next(iter(found.least().values()))
    assert row["strict"] == len(found.simple_against_short())
    assert set(summary["scores"]) == {f"bit, least λ, nβ = 20, {name}" for name in measure.SAMPLERS}
    assert all(np.isfinite(score) for score in summary["scores"].values())
    assert set(summary["leaving"]) == {"1", "30"}


def test_results_hold_exact_values_as_fractions(tiny_run):
    results = tiny_run.read_results()
    at = results.sel(padded_machine="λ = 28/3", known_semantics="markov", prior="unit-error-mass", extra=0)
    assert (int(at.padding_numerator), int(at.padding_denominator)) == (22, 3)
    at = results.sel(stepped_machine="bit, λ = 28/3", known_semantics="markov", t=3)
    assert (int(at.steps_numerator), int(at.steps_denominator), int(at.steps_multiplicity)) == (28, 3, 1)
    variants = results.sel(known_semantics="markov")
    values = variants.correction_variant_numerator / variants.correction_variant_denominator
    assert sorted(set(values.values.tolist())) == [5.0, 28 / 3]


def test_page_stands_alone_and_a_second_run_computes_nothing(tiny_run, monkeypatch):
    page = (tiny_run.path / "report.html").read_text()
    pictures = list((tiny_run.path / "figures").glob("*.png"))
    assert page.count("data:image/png;base64,") == len(pictures) >= 8
    assert 'src="http' not in page
    for module, name in (
        (measure, "free_energies"),
        (sampled, "sample"),
        (sampled, "nuts_llc"),
        (exact, "coefficients"),
    ):
        monkeypatch.setattr(module, name, None)
    measure.run(CONFIGS["tiny"](), tiny_run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": ("OR",)}, "there is no case 'OR'; there are: detect-A, one step"),
        ({"rivals": "OR"}, "there are no rivals 'OR'; there are: AND"),
        ({"max_states": 1}, "max_states = 1; it must be at least 2"),
        ({"largest_nbeta": 10.0}, "largest_nbeta = 10; it must be at least"),
    ],
)
def test_what_cannot_be_run_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        programs.EXPERIMENT.check(dataclasses.replace(CONFIGS["tiny"](), **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"problems": ("nand",)}, "no problem 'nand'"), ({"semantics": ("annealed",)}, "no semantics 'annealed'")],
)
def test_an_atlas_of_nothing_known_is_refused(changes, message):
    config = CONFIGS["tiny"]()
    with pytest.raises(UserError, match=message):
        programs.EXPERIMENT.check(dataclasses.replace(config, atlas=dataclasses.replace(config.atlas, **changes)))
    with pytest.raises(UserError, match="there is no problem 'nand'; there are: and"):
        problem_named("nand", 3)
    assert all(problem_named(name, 3).steps == 3 for name in PROBLEMS)
