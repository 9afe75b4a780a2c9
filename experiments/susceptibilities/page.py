"""The showing half of `susceptibilities`: tables, sentences and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.susceptibilities import Susceptibility
from experiments.susceptibilities import figures
from experiments.susceptibilities.reading import Components, Turn, response_components, turning
from slt_lab.heads import best_head, crossing, head_name, where_measured
from slt_lab.page import Page, Section, Table

__all__ = ["page"]

FORMED = 0.5
"""A head whose prefix-matching score is above this is said to be an induction head."""
FEWEST_DRAWS = 100


def page(results: xarray.Dataset, config: Susceptibility) -> Page:
    """The page of a run."""
    del config
    at = where_measured(results, "susceptibility")
    found = response_components(at, np.asarray(results.attrs["token_classes"]))
    lead = (
        "A little more weight on some tokens of the data moves the posterior of every head. The susceptibility of a head to a "
        "class of tokens k is -Cov(L, l_k - L) under the posterior of that head's weights, the rest of the network fixed: "
        "negative means that the head serves these tokens more than the others (expression), positive that it serves them "
        "less (suppression). (arXiv 2504.18274; here both losses are centred on the head's own posterior.)"
    )
    sections = [
        Section("The induction head", _story(results, at)),
        Section("Over training", figures=[figures.curves_figure(at)]),
        Section("The response matrix", _about_classes(results), _table(at), [figures.matrices_figure(at)]),
        Section("Leading components", _about_components(found), figures=[figures.components_figure(at, found)] if found else []),
        Section("Is the sampling to be trusted?", _about_sampling(at), _diagnostics(at)),
    ]  # fmt: skip
    lost = int(results.susceptibility_diverged.sum())
    warnings = [f"{lost} chains diverged; their heads are NaN. Use a smaller step size."] if lost else []
    return Page("susceptibilities", lead, sections, warnings, _summary(results, at, found, lost))


def _summary(results: xarray.Dataset, at: xarray.Dataset, found: Components | None, lost: int) -> dict[str, Any]:
    layer, head = best_head(results, "prefix_matching")
    return {
        "classes": at.token_class.values.tolist(),
        "counts": _counts(results),
        "checkpoints": at.checkpoint.values.tolist(),
        "susceptibility": at.susceptibility.values.tolist(),
        "susceptibility_std_error": at.susceptibility_std_error.values.tolist(),
        "effective_draws": {"lowest": float(at.susceptibility_ess.min()), "median": float(at.susceptibility_ess.median())},
        "induction_head": head_name(layer, head),
        "induction_formed_at": _formed(results, layer, head),
        "turns": {kind: None if turn is None else turn._asdict() for kind, turn in _turns(at, layer, head).items()},
        "components": None if found is None else {
            "explained": found.trajectory.explained.tolist(), "noise": found.noise, "by_class": found.by_class.tolist(),
        },
        "diverged_chains": lost,
    }  # fmt: skip


def _counts(results: xarray.Dataset) -> dict[str, int]:
    kinds = np.asarray(results.attrs["token_classes"])
    return {str(name): int(np.sum(kinds == k)) for k, name in enumerate(results.token_class.values)}


def _formed(results: xarray.Dataset, layer: int, head: int) -> int | None:
    return crossing(results.step.values, results.prefix_matching.isel(layer=layer, head=head).values, FORMED)


def _turns(at: xarray.Dataset, layer: int, head: int) -> dict[str, Turn | None]:
    """Class -> where the head's susceptibility to it turns."""
    here = at.isel(layer=layer, head=head)
    return {
        str(kind): turning(
            at.checkpoint.values,
            here.susceptibility.sel(token_class=kind).values,
            here.susceptibility_std_error.sel(token_class=kind).values,
        )
        for kind in at.token_class.values
    }


def _story(results: xarray.Dataset, at: xarray.Dataset) -> list[str]:
    layer, head = best_head(results, "prefix_matching")
    formed, score = _formed(results, layer, head), float(results.prefix_matching.isel(step=-1, layer=layer, head=head))
    passes = f"passes {FORMED} at step {formed:,}" if formed is not None else f"stays below {FORMED}"
    sentences = [
        f"The head of the highest prefix-matching score is {head_name(layer, head)}: it {passes} and ends at {score:.2f}."
    ]
    for kind, turn in _turns(at, layer, head).items():
        last = at.isel(checkpoint=-1, layer=layer, head=head).sel(token_class=kind)
        ends = f"ends at {float(last.susceptibility):+.2g} ± {float(last.susceptibility_std_error):.1g}"
        if turn is not None and turn.sure:
            told = (
                f"turns at step {turn.step:,}, at {turn.value:+.2g} ± {turn.std_error:.1g} ({turn.before:.0f} joint standard "
                f"errors from the first checkpoint, {turn.after:.0f} from the last)"
            )
        else:
            told = "does not turn by more than three joint standard errors"
        sentences.append(f"Its susceptibility to tokens “{kind}” {told}, and {ends} squared nats.")
    return sentences


def _about_classes(results: xarray.Dataset) -> list[str]:
    told = "; ".join(f"{name}: {count:,}" for name, count in _counts(results).items())
    return [
        f"Tokens of the evaluation sequences in each class: {told}. Squared nats, at the last checkpoint, ± one standard error."
    ]


def _table(at: xarray.Dataset) -> Table:
    last, rows = at.isel(checkpoint=-1), []
    for layer, head in np.ndindex(at.sizes["layer"], at.sizes["head"]):
        here = last.isel(layer=layer, head=head)
        pairs = zip(here.susceptibility.values, here.susceptibility_std_error.values, strict=True)
        rows.append([head_name(layer, head), *(f"{value:+.2e} ± {error:.0e}" for value, error in pairs)])
    return Table(["head", *map(str, at.token_class.values)], rows)


def _about_components(found: Components | None) -> list[str]:
    if found is None:
        return ["Not looked for: a susceptibility is missing."]
    first, second = found.trajectory.explained[:2]
    return [
        f"Rows of the matrix are heads at checkpoints, columns are single tokens. The first component holds {first:.0%} of the "
        f"variance, the second {second:.0%}; {found.noise:.0%} of it is what the standard errors account for."
    ]


def _about_sampling(at: xarray.Dataset) -> list[str]:
    return [
        f"An error bar wants {FEWEST_DRAWS} effective draws of the products. A large share of the covariance between chains "
        "says that they have not mixed.",
        f"Between all heads, classes and checkpoints the median is {float(at.susceptibility_ess.median()):.0f} effective draws.",
    ]  # fmt: skip


def _diagnostics(at: xarray.Dataset) -> Table:
    rows = []
    for step in at.checkpoint.values:
        here = at.sel(checkpoint=step)
        rows.append([
            f"{int(step):,}", f"{float(here.susceptibility_ess.min()):.0f}", f"{float(here.susceptibility_ess.median()):.0f}",
            f"{float(here.susceptibility_between.max()):.0%}", f"{int(here.susceptibility_diverged.sum())}",
        ])  # fmt: skip
    return Table(["step", "fewest effective draws", "median", "largest share between chains", "diverged chains"], rows)
