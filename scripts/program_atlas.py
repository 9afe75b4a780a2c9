"""Learning coefficient against length of every machine with two symbols and two states that solves a problem.

    python scripts/program_atlas.py                          all problems, three semantics (2.5 minutes of one core)
    python scripts/program_atlas.py --problems and xor --semantics gps --steps 4
    python scripts/program_atlas.py --figures FOLDER         also draws the atlas, and the strict cases' machines
    python scripts/program_atlas.py --lengths                λ of one AND and one XOR machine against the number of steps
    python scripts/program_atlas.py --padding                λ of three machines with up to three idle states, two priors

Prior: uniform on every simplex (`--padding` names both). Potential: negative log-likelihood. A strict case of simple against
short is a machine whose λ is below that of every shortest solver. `spread` is the largest ratio of two λ at one length; the
last columns give the number of strict cases and the table of one with the least λ: new symbol, new state, move for
(symbol, state) = 00, 01, 10, 11.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

from slt_jax import theory
from slt_jax.theory import Atlas, SynthesisProblem, TuringMachine

WORDS = ((0, 0), (0, 1), (1, 0), (1, 1))
TRUTH = {
    "and": (0, 0, 0, 1), "or": (0, 1, 1, 1), "nor": (1, 0, 0, 0), "xor": (0, 1, 1, 0),
    "zero-then-one": (0, 1, 0, 0), "one-then-zero": (0, 0, 1, 0),
}  # fmt: skip
PROBLEMS = (*TRUTH, "bit")
SEMANTICS = ("naive", "gps", "markov")
STEPS = {"bit": 3}
SHORT_AND = TuringMachine(2, 2, [[0, 0, 0, 0, 1], [0, 1, 0, 0, -1], [1, 0, 0, 1, 0], [1, 1, 0, 0, -1]])
LONG_AND = TuringMachine(2, 2, [[0, 0, 0, 0, -1], [0, 1, 0, 0, -1], [1, 0, 0, 1, 1], [1, 1, 1, 1, 0]])
LONG_XOR = TuringMachine(2, 2, [[0, 0, 0, 0, 1], [0, 1, 0, 1, 1], [1, 0, 0, 1, 1], [1, 1, 0, 0, 0]])
BITS = {
    "least λ": TuringMachine(2, 2, [[0, 0, 0, 0, -1], [0, 1, 0, 1, -1], [1, 0, 0, 1, -1], [1, 1, 0, 1, -1]]),
    "λ = 28/3": TuringMachine(2, 2, [[0, 0, 0, 0, -1], [0, 1, 0, 0, -1], [1, 0, 1, 1, 0], [1, 1, 1, 1, 0]]),
    "largest λ": TuringMachine(2, 2, [[0, 0, 1, 0, 0], [0, 1, 0, 0, -1], [1, 0, 1, 1, 0], [1, 1, 1, 0, 0]]),
}


def main() -> None:
    """Print the table of the atlas, or what else was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", nargs="*", default=PROBLEMS, choices=PROBLEMS)
    parser.add_argument("--semantics", nargs="*", default=SEMANTICS, choices=tuple(theory.programs.SEMANTICS))
    parser.add_argument("--steps", type=int, help="default: 5, and 3 for the bit")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--figures", type=Path, help="a folder for atlas.png and machines.png")
    parser.add_argument("--lengths", action="store_true")
    parser.add_argument("--padding", action="store_true")
    arguments = parser.parse_args()
    if arguments.lengths or arguments.padding:
        if arguments.lengths:
            print_steps()
        if arguments.padding:
            print_padding()
        return
    tasks = [
        (name, arguments.steps or STEPS.get(name, 5), semantics)
        for name, semantics in product(arguments.problems, arguments.semantics)
    ]
    started = time.perf_counter()
    print(
        f"{'problem':14} t {'semantics':9} solvers {'shortest':>8} {'λ':>13} {'longer: λ':>13} spread strict  machine"
    )
    with ProcessPoolExecutor(arguments.workers) as pool:
        found = dict(zip(tasks, show(tasks, pool.map(solve, tasks)), strict=True))
    total = sum(len(atlas.programs) for atlas in found.values())
    print(
        f"{total} programs in {time.perf_counter() - started:.0f} s; λ is at most 4 times the length for each of them"
    )
    if arguments.figures:
        arguments.figures.mkdir(parents=True, exist_ok=True)
        draw_atlas(found, arguments.figures / "atlas.png")
        draw_machines(found, arguments.figures / "machines.png")


def problem_named(name: str, steps: int) -> SynthesisProblem:
    """Two bits are read, and the state says whether the answer is yes; for the bit the state repeats it."""
    if name == "bit":
        return SynthesisProblem([[0], [1]], [[0], [1]], steps)
    return SynthesisProblem(WORDS, [[output] for output in TRUTH[name]], steps)


def solve(task: tuple[str, int, str]) -> Atlas:
    """The atlas of one problem, with the bound asserted on every program."""
    name, steps, semantics = task
    atlas = theory.atlas(problem_named(name, steps), semantics)
    for found in atlas.programs:
        assert found.learning_coefficient <= found.bound == 4 * found.used_tuples
    return atlas


def show(tasks, atlases):
    """Print a row for each atlas as it comes."""
    for (name, steps, semantics), atlas in zip(tasks, atlases, strict=True):
        least, strict = atlas.least(), atlas.simple_against_short()
        (length, short), *longer = least.items()
        rest = min((value for _, value in longer), default=None)
        shown = " ".join(f"{b}{r}{d:+d}" for *_, b, r, d in atlas.machines[strict[0]].delta) if strict else ""
        print(
            f"{name:14} {steps} {semantics:9} {len(atlas.machines):7} {length:8} {both(short):>13} {both(rest):>13} "
            f"{spread(atlas):6.2f} {len(strict):6}  {shown}",
            flush=True,
        )
        yield atlas


def spread(atlas: Atlas) -> float:
    """The largest ratio of two λ of programs of one length."""
    values: dict[int, list] = {}
    for found in atlas.programs:
        values.setdefault(found.used_tuples, []).append(found.learning_coefficient)
    return float(max(max(group) / min(group) for group in values.values()))


def both(value) -> str:
    """A fraction and its decimals."""
    return "" if value is None else f"{value} = {float(value):.2f}" if value.denominator > 1 else str(value)


def print_steps() -> None:
    """λ and m of three machines against the number of steps, where they solve their problem."""
    print(f"{'machine':18} {'semantics':9}  λ (m) at t = 3, ..., 9; - where it does not solve the problem")
    machines = {"AND, three tuples": ("and", SHORT_AND), "AND, four tuples": ("and", LONG_AND), "XOR, four tuples": ("xor", LONG_XOR)}  # fmt: skip
    for (label, (name, machine)), semantics in product(machines.items(), SEMANTICS):
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
    for (label, machine), semantics, prior in product(BITS.items(), SEMANTICS, ("uniform", "unit-error-mass")):
        values = [
            theory.program(machine.padded(k), problem, semantics, prior=prior).learning_coefficient for k in range(4)
        ]
        print(f"{label:10} {semantics:9} {prior:16} {', '.join(map(str, values))}", flush=True)


def draw_atlas(found: dict[tuple[str, int, str], Atlas], path: Path) -> None:
    """λ against length: a point per program, the bound as a line, strict cases in red."""
    import matplotlib.pyplot as plt
    import numpy as np

    names, semantics = list(dict.fromkeys(t[0] for t in found)), list(dict.fromkeys(t[2] for t in found))
    size = (2.2 * len(names) + 1, 2.4 * len(semantics) + 0.6)
    figure, axes = plt.subplots(
        len(semantics), len(names), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    rng = np.random.default_rng(0)
    for (name, steps, meaning), atlas in found.items():
        ax = axes[semantics.index(meaning), names.index(name)]
        lengths = np.array([program.used_tuples for program in atlas.programs])
        values = np.array([float(program.learning_coefficient) for program in atlas.programs])
        strict = np.isin(np.arange(len(values)), atlas.simple_against_short())
        places = lengths + rng.uniform(-0.25, 0.25, len(lengths))
        ax.scatter(places[~strict], values[~strict], s=4, color="0.45", linewidths=0)
        ax.scatter(places[strict], values[strict], s=14, color="#c0392b", marker="D", linewidths=0)
        ends = np.array([lengths.min() - 0.5, lengths.max() + 0.5])
        ax.plot(ends, 4 * ends, color="0.7", linewidth=0.8)
        ax.set_xticks(sorted(set(lengths.tolist())))
        ax.set_title(f"{name}, t = {steps}, {meaning}", fontsize=8)
    figure.supxlabel("program length (tuples used without errors); line: the bound 4 x length", fontsize=9)
    figure.supylabel("λ (uniform prior, NLL)", fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_machines(found: dict[tuple[str, int, str], Atlas], path: Path) -> None:
    """The step table of the simplest machine of every strict case beside that of the simplest among the shortest."""
    import matplotlib.pyplot as plt

    from slt_jax.plotting import plot_step_table
    from slt_jax.theory.programs import used_tuples

    strict = {task: atlas for task, atlas in found.items() if atlas.simple_against_short()}
    if not strict:
        return
    figure, axes = plt.subplots(len(strict), 2, figsize=(6.4, 1.8 * len(strict)), layout="constrained", squeeze=False)
    for row, ((name, steps, meaning), atlas) in zip(axes, strict.items(), strict=True):
        shortest = min(atlas.least())
        short = [i for i, program in enumerate(atlas.programs) if program.used_tuples == shortest]
        chosen = (min(short, key=lambda i: atlas.programs[i].learning_coefficient), atlas.simple_against_short()[0])
        for ax, i in zip(row, chosen, strict=True):
            plot_step_table(ax, atlas.machines[i].delta, used_tuples(atlas.machines[i], problem_named(name, steps)))
            value = atlas.programs[i].learning_coefficient
            ax.set_title(f"{name}, t = {steps}, {meaning}: λ = {value}", fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
