"""Figures of what is exact: atlases, machines, padding, growth with t, guards."""

from fractions import Fraction

import numpy as np
import xarray
from matplotlib.axes import Axes

from configs.programs import Programs
from experiments.programs.correction import GUARDS, REDUNDANCY, guarded
from experiments.programs.machines import problem_named
from slt_jax.plotting import LLC_COLOR, STAGE_INKS, plot_step_table
from slt_jax.theory import TuringMachine
from slt_jax.theory.programs import used_tuples
from slt_lab.page import Picture

__all__ = ["atlas_figure", "coefficient_of", "guards_figure", "machines_figure", "padding_figure", "steps_figure"]

STRICT_COLOR = "#c0392b"
ASSUMED = "uniform prior on every simplex, NLL"


def coefficient_of(results: xarray.Dataset, name: str, **at: int) -> Fraction:
    """λ as it was stored: the fraction `name` at one place."""
    chosen = results.isel(at)
    return Fraction(int(chosen[f"{name}_numerator"]), int(chosen[f"{name}_denominator"]))


def atlas_figure(config: Programs, results: xarray.Dataset) -> Picture:
    """λ against length: a point per program, the bound as a line, strict cases in red."""
    import matplotlib.pyplot as plt

    problems = list(dict.fromkeys(results.atlas_problem.values.tolist()))
    semantics = list(dict.fromkeys(results.atlas_semantics.values.tolist()))
    size = (1.75 * len(problems) + 0.9, 2.1 * len(semantics) + 0.7)
    figure, axes = plt.subplots(
        len(semantics), len(problems), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    rng = np.random.default_rng(0)
    values = results.program_numerator.values / results.program_denominator.values
    for i in range(results.sizes["atlas"]):
        problem, meaning = str(results.atlas_problem[i].item()), str(results.atlas_semantics[i].item())
        ax, chosen = axes[semantics.index(meaning), problems.index(problem)], results.program_atlas.values == i
        lengths, strict = results.program_length.values[chosen], results.program_strict.values[chosen]
        places = lengths + rng.uniform(-0.25, 0.25, len(lengths))
        ax.scatter(places[~strict], values[chosen][~strict], s=4, color="0.45", linewidths=0)
        ax.scatter(places[strict], values[chosen][strict], s=16, color=STRICT_COLOR, marker="D", linewidths=0)
        ends = np.array([lengths.min() - 0.5, lengths.max() + 0.5])
        ax.plot(ends, 4 * ends, color="0.6", linewidth=0.9)
        ax.set_xticks(sorted(set(lengths.tolist())))
        ax.set_title(f"{problem}, t = {int(results.atlas_steps[i])}\n{meaning}", fontsize=8)
    figure.supxlabel("program length: tuples used without errors", fontsize=9)
    figure.supylabel("λ", fontsize=9)
    figure.suptitle(
        f"{ASSUMED}; semantics above each panel; line: the bound 4 x length; red: simple against short", fontsize=9
    )
    caption = (
        f"λ against length for every machine with two symbols and two states ({ASSUMED}); the semantics are named above each "
        "panel. Line: the bound 4 x length. Red diamonds: longer programs below every shortest one. Points are spread "
        "sideways to be seen."
    )
    return Picture("atlas", figure, caption)


def machines_figure(config: Programs, results: xarray.Dataset) -> Picture | None:
    """Step tables: the simplest of the shortest programs, and beside it the simplest of all; a row for each strict case."""
    import matplotlib.pyplot as plt

    strict = [i for i in range(results.sizes["atlas"]) if results.program_strict.values[_of(results, i)].any()]
    if not strict:
        return None
    columns = 2 if len(strict) > 3 else 1
    height = -(-len(strict) // columns)
    figure, axes = plt.subplots(
        height, 2 * columns, figsize=(5.4 * columns, 1.75 * height), layout="constrained", squeeze=False
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for place, i in enumerate(strict):
        first = 2 * (place // height)
        for ax, program in zip(axes[place % height, first : first + 2], _simplest(results, i), strict=True):
            ax.set_axis_on()
            _draw_program(ax, results, i, program)
    figure.suptitle(
        f"shortest of least λ, and the longer one of least λ; {ASSUMED}; shaded: pairs met without errors", fontsize=9
    )
    caption = (
        "Every strict case of simple against short: the shortest program of least λ (three tuples), and right of it the longer "
        f"one of least λ (four tuples); {ASSUMED}. Shaded: pairs (symbol, state) that are met without errors."
    )
    return Picture("machines", figure, caption)


def _of(results: xarray.Dataset, atlas: int) -> np.ndarray:
    return np.flatnonzero(results.program_atlas.values == atlas)


def _simplest(results: xarray.Dataset, atlas: int) -> tuple[int, int]:
    """The program of least λ among the shortest, and among all."""
    programs = _of(results, atlas)
    values = [coefficient_of(results, "program", program=int(i)) for i in programs]
    lengths = results.program_length.values[programs]
    short = [k for k in range(len(programs)) if lengths[k] == lengths.min()]
    return programs[min(short, key=lambda k: values[k])], programs[min(range(len(values)), key=lambda k: values[k])]


def _draw_program(ax: Axes, results: xarray.Dataset, atlas: int, program: int) -> None:
    problem, steps = str(results.atlas_problem[atlas].item()), int(results.atlas_steps[atlas])
    rows = results.program_table.values[program].astype(int).tolist()
    machine = TuringMachine(2, 2, [(*divmod(i, 2), *row) for i, row in enumerate(rows)])
    plot_step_table(ax, machine.delta, used_tuples(machine, problem_named(problem, steps)))
    value, meaning = coefficient_of(results, "program", program=program), results.atlas_semantics[atlas].item()
    ax.set_title(f"{problem}, t = {steps}, {meaning}: λ = {value}", fontsize=8)


def padding_figure(config: Programs, results: xarray.Dataset) -> Picture:
    """Left: exact λ under both priors. Right: one machine's nβE[L] on its way there."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    meaning = "markov"
    at = results.sel(known_semantics=meaning)
    for ax, prior in zip(axes, results.prior.values, strict=False):
        for color, machine in zip(STAGE_INKS, results.padded_machine.values, strict=False):
            row = at.sel(prior=prior, padded_machine=machine)
            value = row.padding_numerator / row.padding_denominator
            ax.plot(
                results.extra,
                value,
                "o-",
                color=color,
                label=f"bit, {machine} unpadded" if "=" in machine else f"bit, {machine}",
            )
        ax.set_title(f"{prior} prior, {meaning}, t = 3, NLL", fontsize=9)
        ax.set_xlabel("idle states added")
        ax.set_ylabel("λ")
        ax.set_ylim(0, None)
        ax.set_xticks(results.extra)
    axes[0].legend(fontsize=7, loc="lower right")
    ax = axes[2]
    for style, prior in zip(("-", "--"), results.prior.values, strict=True):
        ax.plot([], [], style, color="0.3", label=f"{prior} prior")
        for extra, color in zip(results.extra.values, STAGE_INKS, strict=False):
            line = results.sel(prior=prior, extra=extra)
            ax.plot(results.rung_nbeta, line.padded_value, style, color=color, linewidth=1)
    for extra, color in zip(results.extra.values, STAGE_INKS, strict=False):
        ax.plot([], [], color=color, label=f"{extra} idle states")
    ax.set_xscale("log")
    ax.set_xlabel("nβ")
    ax.set_ylabel("nβE[L]")
    ax.set_title(f"bit, least λ, {meaning}, γ = {config.localization:g}", fontsize=9)
    ax.legend(fontsize=7)
    caption = (
        "Padding with idle states. Left and middle: exact λ. Right: nβE[L] of the machine of least λ under both priors; it tends "
        "to λ, which the first prior moves and the second leaves at 5."
    )
    return Picture("padding", figure, caption)


def steps_figure(config: Programs, results: xarray.Dataset) -> Picture:
    """λ against t, where a machine solves its problem."""
    import matplotlib.pyplot as plt

    names = results.known_semantics.values
    figure, axes = plt.subplots(1, len(names), figsize=(11, 3.3), layout="constrained", sharey=True)
    for ax, meaning in zip(axes, names, strict=True):
        for k, machine in enumerate(results.stepped_machine.values):
            row = results.sel(known_semantics=meaning, stepped_machine=machine)
            solves = row.steps_numerator.values > 0
            value = row.steps_numerator.values[solves] / row.steps_denominator.values[solves]
            ax.plot(results.t.values[solves], value, "osD^v"[k] + "-", color=STAGE_INKS[k], markersize=4, label=machine)
        ax.set_title(meaning, fontsize=9)
        ax.set_xlabel("steps t")
        ax.set_xticks(results.t.values)
    axes[0].set_ylabel("λ")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right center")
    figure.suptitle(ASSUMED, fontsize=9)
    caption = (
        f"λ against the number of steps ({ASSUMED}), semantics above each panel. A point is missing where the machine does not "
        "solve its problem at that t."
    )
    return Picture("steps", figure, caption)


def guards_figure(config: Programs, results: xarray.Dataset) -> Picture:
    """Three guards of one program as step tables, and λ of all twelve."""
    import matplotlib.pyplot as plt

    meaning = "markov"
    figure, axes = plt.subplots(1, 1 + len(GUARDS), figsize=(11, 2.9), layout="constrained")
    for ax, (name, guard) in zip(axes, GUARDS.items(), strict=False):
        machine = guarded(guard)
        plot_step_table(ax, machine.delta, used_tuples(machine, REDUNDANCY[f"second look, {name}"].problem))
        at = results.sel(known_semantics=meaning, redundant_machine=f"second look, {name}")
        value = coefficient_of(at, "correction_machine")
        fatal = int(at.correction_machine_fatal)
        ax.set_title(f"{name}:\nλ = {value}, {fatal} errors fatal alone", fontsize=8)
    at = results.sel(known_semantics=meaning)
    values = (at.correction_variant_numerator / at.correction_variant_denominator).values
    ax = axes[-1]
    ax.scatter(at.correction_variant_fatal, values, s=24, color=LLC_COLOR)
    pairs = list(zip(at.correction_variant_fatal.values.tolist(), values.tolist(), strict=True))
    for pair in sorted(set(pairs)):
        ax.annotate(f"{pairs.count(pair)}", pair, textcoords="offset points", xytext=(0, 6), ha="center", fontsize=8)
    ax.set_xlabel("errors fatal alone")
    ax.set_ylabel("λ")
    ax.set_ylim(0, values.max() + 2)
    ax.set_title("all 12 guards (count at each point)", fontsize=8)
    figure.suptitle(f"a second look at a bit, t = 3, {meaning}, {ASSUMED}", fontsize=9)
    caption = (
        f"A second look: the bit, t = 3, {meaning}, {ASSUMED}. Only the row for symbol 0 in state 1 differs, which no run without "
        "errors meets (unshaded)."
    )
    return Picture("guards", figure, caption)
