"""Learning coefficient against length of every machine with two symbols and two states that solves a problem.

    python scripts/program_atlas.py                          all problems, three semantics
    python scripts/program_atlas.py --problems and xor --semantics gps --steps 4
    python scripts/program_atlas.py --lengths                λ of AND and XOR machines against the number of steps
    python scripts/program_atlas.py --padding                λ of three machines with up to three idle states, two priors
    python scripts/program_atlas.py --guards                 λ of machines that put an error of their own right

Prior: uniform on every simplex (`--padding` names both). Potential: negative log-likelihood. A strict case of simple against
short is a machine whose λ is below that of every shortest solver. `spread` is the largest ratio of two λ at one length; the
last columns give the number of strict cases and the table of one with the least λ: new symbol, new state, move for
(symbol, state) = 00, 01, 10, 11. Figures of all this: `python -m experiments programs --config cpu`.
"""

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import product

from experiments.programs.correction import REDUNDANCY, VARIANTS
from experiments.programs.exact import PADDING_PRIORS, STEP_SEMANTICS
from experiments.programs.machines import PADDED, PROBLEMS, STEPPED, code_word, problem_named
from slt_jax import theory
from slt_jax.theory import Atlas

STEPS = {"bit": 3}
Task = tuple[str, int, str]


def main() -> None:
    """Print the table of the atlas, or what else was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="*", default=PROBLEMS, choices=PROBLEMS)
    parser.add_argument("--semantics", nargs="*", default=STEP_SEMANTICS, choices=tuple(theory.programs.SEMANTICS))
    parser.add_argument("--steps", type=int, help="default: 5, and 3 for the bit")
    others = {"lengths": print_steps, "padding": print_padding, "guards": print_guards}
    for name in others:
        parser.add_argument(f"--{name}", action="store_true")
    arguments = parser.parse_args()
    chosen = [print_one for name, print_one in others.items() if getattr(arguments, name)]
    for print_one in chosen:
        print_one()
    if not chosen:
        pairs = product(arguments.problems, arguments.semantics)
        tasks = [(name, arguments.steps or STEPS.get(name, 5), semantics) for name, semantics in pairs]
        print_atlas(tasks)


def print_atlas(tasks: Sequence[Task]) -> None:
    """A row for each problem and semantics."""
    started = time.process_time()
    print(
        f"{'problem':14} t {'semantics':9} solvers {'shortest':>8} {'λ':>13} {'longer: λ':>13} spread strict  machine"
    )
    total = sum(show(tasks, map(solve, tasks)))
    print(
        f"{total} programs in {time.process_time() - started:.0f} s of one core; λ is at most 4 times the length for each of them"
    )


def solve(task: Task) -> Atlas:
    """The atlas of one problem, with the bound asserted on every program."""
    name, steps, semantics = task
    atlas = theory.atlas(problem_named(name, steps), semantics)
    for found in atlas.programs:
        assert found.learning_coefficient <= found.bound == 4 * found.used_tuples
    return atlas


def show(tasks: Sequence[Task], atlases: Iterable[Atlas]) -> Iterator[int]:
    """Print a row for each atlas as it comes, and give the number of its programs."""
    for (name, steps, semantics), atlas in zip(tasks, atlases, strict=True):
        least, strict = atlas.least(), atlas.simple_against_short()
        (length, short), *longer = least.items()
        rest = min((value for _, value in longer), default=None)
        shown = code_word(atlas.machines[strict[0]]) if strict else ""
        print(
            f"{name:14} {steps} {semantics:9} {len(atlas.machines):7} {length:8} {both(short):>13} {both(rest):>13} "
            f"{spread(atlas):6.2f} {len(strict):6}  {shown}",
            flush=True,
        )
        yield len(atlas.programs)


def spread(atlas: Atlas) -> float:
    """The largest ratio of two λ of programs of one length."""
    values: dict[int, list] = {}
    for found in atlas.programs:
        values.setdefault(found.used_tuples, []).append(found.learning_coefficient)
    return float(max(max(group) / min(group) for group in values.values()))


def both(value: Fraction | None) -> str:
    """A fraction and its decimals."""
    return "" if value is None else f"{value} = {float(value):.2f}" if value.denominator > 1 else str(value)


def print_steps() -> None:
    """λ and m of machines against the number of steps, where they solve their problem."""
    print(f"{'machine':18} {'semantics':9}  λ (m) at t = 3, ..., 9; - where it does not solve the problem")
    for (label, (name, machine)), semantics in product(STEPPED.items(), STEP_SEMANTICS):
        shown = []
        for steps in range(3, 10):
            try:
                found = theory.program(machine, problem_named(name, steps), semantics)
            except ValueError:
                shown.append("-")
            else:
                shown.append(f"{found.learning_coefficient} ({found.multiplicity})")
        print(f"{label:18} {semantics:9}  {', '.join(shown)}", flush=True)


def print_padding() -> None:
    """λ of three one-bit machines, t = 3, with 0 to 3 more states that they never enter."""
    problem = problem_named("bit", 3)
    print(f"{'machine':10} {'semantics':9} {'prior':16} λ with 0, 1, 2, 3 more states")
    for (label, machine), semantics, prior in product(PADDED.items(), STEP_SEMANTICS, PADDING_PRIORS):
        values = [
            theory.program(machine.padded(k), problem, semantics, prior=prior).learning_coefficient for k in range(4)
        ]
        print(f"{label:10} {semantics:9} {prior:16} {', '.join(map(str, values))}", flush=True)


def print_guards() -> None:
    """λ, m and the number of errors fatal alone, of plain machines and of those with redundancy; then of all guards."""
    print(f"{'machine':43} {'semantics':9} length  λ (m), errors fatal alone")
    named = {name: tuple(each) for name, each in REDUNDANCY.items()}
    bit = problem_named("bit", 3)
    guards = {f"second look, row (0, 1) is {guard}": (machine, bit) for guard, machine in VARIANTS.items()}
    for (label, (machine, problem)), semantics in product((named | guards).items(), STEP_SEMANTICS):
        found = theory.program(machine, problem, semantics)
        told = f"{found.learning_coefficient} ({found.multiplicity}), {len(found.linear_syndromes)}"
        print(f"{label:43} {semantics:9} {found.used_tuples:6}  {told}", flush=True)


if __name__ == "__main__":
    main()
