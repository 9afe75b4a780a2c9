"""The showing half of `programs`: tables, figures, page and summary, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.programs import Programs
from experiments.programs.courses import (
    free_energy_figure,
    leaving_figure,
    measured_figure,
    way_figure,
)
from experiments.programs.figures import (
    atlas_figure,
    coefficient_of,
    guards_figure,
    machines_figure,
    padding_figure,
    steps_figure,
)
from experiments.programs.summary import scores_of, summarise
from slt_lab.page import Page, Picture, Section, Table

__all__ = ["page"]

WANTED = 3.0
"""Standard errors within which a measured value has to be."""


def page(results: xarray.Dataset, config: Programs) -> Page:
    """The page of a run."""
    summary = summarise(results)
    sections = [
        _atlas_section(config, results, summary),
        _measured_section(config, results, summary),
        _padding_section(config, results),
        _steps_section(config, results),
        _free_energy_section(config, results, summary),
        _leaving_section(config, results, summary),
        _correction_section(config, results),
    ]
    lead = (
        "Noisy Turing machines: exact learning coefficients, whether short programs are simple, samplers beside exact values. "
        "The prior is uniform on every simplex and the potential the negative log-likelihood, unless something else is said; "
        "the semantics are named each time."
    )
    outside = [
        f"{name}: a measured value is {score:+.1f} standard errors from the value at its nβ and γ."
        for name, score in summary["scores"].items()
        if not abs(score) <= WANTED
    ]
    return Page("programs", lead, sections, warnings=outside, summary=summary)


def _atlas_section(config: Programs, results: xarray.Dataset, summary: dict[str, Any]) -> Section:
    rows = [
        [
            row["problem"], str(row["steps"]), row["semantics"], f"{row['solvers']:,}", str(row["shortest"]),
            row["shortest_coefficient"], row["longer_coefficient"], str(row["strict"]), f"{row['spread']:.2f}",
            str(row["fewest_fatal"]), f"{row['seconds']:.1f}",
        ]
        for row in summary["atlas"]
    ]  # fmt: skip
    head = [
        "problem",
        "t",
        "semantics",
        "solvers",
        "shortest",
        "its λ",
        "longer: λ",
        "strict",
        "spread",
        "fewest fatal",
        "s",
    ]
    figures = [atlas_figure(config, results), machines_figure(config, results)]
    return Section(
        "Simple against short",
        [
            f"All machines with two symbols and two states: {summary['programs']:,} solvers, every one with λ at most four times "
            f"its length (asserted), in {summary['atlas_seconds']:.0f} s of one core. 'Its λ' is the least among the shortest programs, "
            "'longer' the least among the others. Strict: longer programs below every shortest one. Spread: the largest ratio "
            "of two λ at one length. Fewest fatal: the least number of errors that are fatal alone."
        ],
        Table(head, rows),
        [figure for figure in figures if figure],
    )


def _measured_section(config: Programs, results: xarray.Dataset, summary: dict[str, Any]) -> Section:
    scores, rows = scores_of(results), []
    for i, j in np.ndindex(scores.shape[:2]):
        at = results.isel(case=i, nbeta=j)
        quadrature = float(at.finite_quadrature)
        estimates = [
            f"{float(at.estimate_mean[k]):.3f} ± {float(at.estimate_std_error[k]):.3f} ({scores[i, j, k]:+.1f})"
            for k in range(scores.shape[2])
        ]
        rows.append(
            [
                at.case_title.item(), f"{float(at.nbeta):g}", at.coefficient_name.item(), str(int(at.multiplicity)),
                str(int(at.fatal)), f"{float(at.asymptotic):.3f}",
                f"{float(at.finite_value):.3f} ± {float(at.finite_value_error):.3f}",
                f"{quadrature:.3f}" if np.isfinite(quadrature) else "", *estimates,
            ]
        )  # fmt: skip
    inside = sum(abs(score) <= WANTED for score in summary["scores"].values())
    head = [
        "machine",
        "nβ",
        "λ",
        "m",
        "fatal",
        "λ - (m - 1)/log nβ",
        "by tempering",
        "by quadrature",
        *results.sampler.values,
    ]
    return Section(
        "Measured beside exact",
        [
            f"λ̂ by SGLD (full gradients, Leimkuhler-Matthews) and by NUTS, on amplitudes with γ = {config.localization:g}. "
            "What a perfect sampler reports is not λ but nβE[L] at this nβ and γ, found by sequential Monte Carlo in other "
            "coordinates, and by quadrature where the loss factors. In brackets: distance from that value in joint standard "
            f"errors. {inside} of {len(summary['scores'])} are within three. 'Fatal' counts errors that are fatal alone; what "
            "is missing between the value and λ belongs to errors that are fatal only together, which the localising Gaussian "
            "keeps too small to be felt at this nβ."
        ],
        Table(head, rows),
        [measured_figure(config, results), way_figure(config, results)],
    )


def _padding_section(config: Programs, results: xarray.Dataset) -> Section:
    rows = []
    for machine in results.padded_machine.values:
        for meaning in results.known_semantics.values:
            at = results.sel(padded_machine=machine, known_semantics=meaning)
            shown = [
                ", ".join(
                    str(coefficient_of(at.sel(prior=prior), "padding", extra=e)) for e in range(at.sizes["extra"])
                )
                for prior in results.prior.values
            ]
            rows.append([f"bit, {machine}", str(meaning), *shown])
    nuts = ", ".join(
        f"{float(m):.3f} ± {float(e):.3f}"
        for m, e in zip(results.padded_nuts_mean, results.padded_nuts_std_error, strict=True)
    )
    rung = int(np.flatnonzero(results.rung_nbeta.values == results.nbeta.values[0])[0])
    line = results.isel(rung=rung)
    uniform = ", ".join(
        f"{float(v):.3f} ± {float(e):.3f}"
        for v, e in zip(line.padded_value[0], line.padded_value_error[0], strict=True)
    )
    ends = "; ".join(
        f"{prior}: "
        + ", ".join(
            f"{float(v):.2f} ± {float(e):.2f}" for v, e in zip(row.padded_value, row.padded_value_error, strict=True)
        )
        for prior, row in ((p, results.isel(rung=-1).sel(prior=p)) for p in results.prior.values)
    )
    return Section(
        "Padding under two priors",
        [
            "λ with 0, 1, 2, ... idle states added, t = 3, NLL. 'Unit error mass' is the Dirichlet prior with exponent 1/(k - 1) for "
            "each of the k - 1 wrong values of a simplex.",
            f"Measured, bit of least λ, markov: NUTS at nβ = {float(results.nbeta[0]):g} under the uniform prior {nuts}; "
            f"sequential Monte Carlo there {uniform}. At nβ = {float(results.rung_nbeta[-1]):g} by sequential Monte Carlo, {ends}.",
        ],
        Table(["machine", "semantics", *map(str, results.prior.values)], rows),
        [padding_figure(config, results)],
    )


def _steps_section(config: Programs, results: xarray.Dataset) -> Section:
    rows = []
    for machine in results.stepped_machine.values:
        for meaning in results.known_semantics.values:
            at = results.sel(stepped_machine=machine, known_semantics=meaning)
            shown = [
                f"{coefficient_of(at, 'steps', t=t)} ({int(at.steps_multiplicity[t])})"
                if int(at.steps_numerator[t])
                else "-"
                for t in range(at.sizes["t"])
            ]
            rows.append([str(machine), str(meaning), *shown])
    head = ["machine", "semantics", *(f"t = {t}" for t in results.t.values)]
    return Section("λ against the number of steps", ["λ (m); - where the machine does not solve its problem."], Table(head, rows), [steps_figure(config, results)])  # fmt: skip


def _free_energy_section(config: Programs, results: xarray.Dataset, summary: dict[str, Any]) -> Section:
    where, (short, long) = summary["crossing"], (results.isel(rival=k) for k in (0, 1))
    told = (
        "the longer program has more mass at every nβ that was followed"
        if where == 0
        else f"the longer program wins from nβ = {where:.3g} on"
        if np.isfinite(where)
        else "the longer program does not win at any nβ that was followed"
    )
    return Section(
        "Which of two programs has the mass",
        [
            f"{short.rivals_title.item()} ({int(short.rivals_length)} tuples, λ = {float(short.rivals_coefficient):.3f}, "
            f"m = {int(short.rivals_multiplicity)}) and {long.rivals_title.item()} ({int(long.rivals_length)} tuples, "
            f"λ = {float(long.rivals_coefficient):.3f}, m = {int(long.rivals_multiplicity)}). To leading order, λ log n - "
            "(m - 1) log log n without a constant, lower λ wins at once. With the constant, by sequential Monte Carlo: "
            f"{told}; the difference at the last nβ is {summary['difference_at_end']:+.2f} nats."
        ],
        figures=[free_energy_figure(config, results)],
    )


def _leaving_section(config: Programs, results: xarray.Dataset, summary: dict[str, Any]) -> Section:
    rows = [
        [
            name,
            f"{row['last_quarter_coefficient']:.2f}",
            f"{row['last_quarter_energy']:.2f}",
            f"{row['share_at_a_solver']:.1%}",
        ]
        for name, row in summary["leaving"].items()
    ]
    head = ["γ", "λ of the nearest program, last quarter", "nβL, last quarter", "draws nearest to a solver"]
    return Section("A chain that leaves", ["Means over chains and the last quarter of their draws."], Table(head, rows), [leaving_figure(config, results)])  # fmt: skip


def _correction_section(config: Programs, results: xarray.Dataset) -> Section:
    rows = []
    for machine in results.redundant_machine.values:
        for meaning in results.known_semantics.values:
            at = results.sel(redundant_machine=machine, known_semantics=meaning)
            value = coefficient_of(at, "correction_machine")
            rows.append(
                [
                    str(machine), str(meaning), str(int(at.correction_machine_length)), str(value),
                    str(int(at.correction_machine_multiplicity)), str(int(at.correction_machine_fatal)),
                ]
            )  # fmt: skip
    figure: Picture = guards_figure(config, results)
    return Section(
        "Errors put right on purpose",
        [
            "A guard is a row that only an error leads to. It costs no length. One that serves six errors takes λ from 28/3 to 5; one "
            "that writes the bit back saves two errors from being fatal alone, at the price of three of its own, and gains m, not λ. "
            "A vote over three copies has to be counted in four states, and its λ is above that of a single look."
        ],
        Table(["machine", "semantics", "length", "λ", "m", "fatal alone"], rows),
        [figure],
    )
