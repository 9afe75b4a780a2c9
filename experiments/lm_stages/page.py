"""The showing half of `lm-stages`: figures, tables and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.lm_stages import LMStages
from experiments.lm_stages import figures
from experiments.lm_stages.authors import AUTHORS_HEAD
from experiments.lm_stages.heads import largest_change, window
from slt_jax.analysis.stages import Stages
from slt_lab.heads import best_head, crossing, head_name, where_measured
from slt_lab.page import Page, Section, Table
from slt_lab.stages import FEWEST, HOW_FOUND, find_stages, stage_table

__all__ = ["page"]

FORMED = 0.5
"""A head whose score is above this is said to have formed."""


def page(results: xarray.Dataset, config: LMStages) -> Page:
    """The page of a run."""
    del config
    stages = find_stages(results)
    sections = [
        Section("Loss and LLC", _story(results), figures=[figures.development_figure(results, stages)], headline=_headline(results)),
        Section("The stages", _about_stages(stages), None if stages is None else stage_table({0: stages})),
        Section("Checkpoint by checkpoint", table=_table(results)),
        Section("What it knows", figures=[figures.knowledge_figure(results, stages)]),
        Section(
            "Heads", _head_story(results), _head_table(results),
            [figures.heads_figure(results, stages), figures.attention_figure(results)],
        ),
        Section(
            "Is the sampling to be trusted?",
            ["Drift is the estimate of the second half of the draws minus that of the first: several of its standard "
             "errors away from zero, the chain had not settled and the LLC is a lower bound.",
             results.attrs["memory"]],
            _diagnostics_table(results), [figures.sampling_figure(results)],
        ),
        Section(
            "The authors' run through the same stage detection",
            ["Two layers, eight heads, context 1,024, 50,000 steps on the Pile (arXiv 2402.02364): the loss and LLC of 501 "
             "checkpoints as published. Step 0 is left out, so LM1's change of LLC is counted from step 100."],
            Table(AUTHORS_HEAD, results.attrs["authors"]),
        ),
    ]  # fmt: skip
    lead = (
        "A small attention-only transformer learns to predict the next token (arXiv 2402.02364): first bigrams, then what "
        "its heads can fetch from the context. The LLC of the whole model and the refined LLC of every head "
        "(arXiv 2410.02984) show when, and in which head."
    )
    return Page("lm-stages", lead, sections, _warnings(results), summary(results, stages))


def _headline(results: xarray.Dataset) -> str:
    """The last checkpoint in one line; nothing if its LLC is lost."""
    steps = _sampled(results)
    if not steps or not np.isfinite(results.llc.sel(checkpoint=steps[-1])):
        return ""
    step = steps[-1]
    here = results.sel(step=step, checkpoint=step)
    return (
        f"step {step:,}: loss {float(here.loss):.2f} nats, LLC {float(here.llc):.1f} ± {float(here.llc_std_error):.1f}"
    )


def _about_stages(stages: Stages | None) -> list[str]:
    if stages is None:
        return [f"Not looked for: there are fewer than {FEWEST} checkpoints with an LLC."]
    return [HOW_FOUND]


def summary(results: xarray.Dataset, stages: Stages | None) -> dict[str, Any]:
    """The numbers of the page."""
    rows = []
    for step in _sampled(results):
        here = results.sel(step=step, checkpoint=step)
        row: dict[str, Any] = {"step": step}
        row |= {name: float(here[name]) for name in ("loss", "icl_score", "bigram_score", "llc", "llc_std_error")}
        row |= {name: here[name].values.tolist() for name in ("previous_token", "prefix_matching")}
        row |= {name: here[name].values.tolist() for name in ("head_llc", "head_llc_std_error")}
        rows.append(row)
    return {
        "baselines": figures.baselines(results),
        "crossings": {name: crossed for name, (_, crossed) in _crossings(results).items()},
        "induction": _induction(results),
        "memory": results.attrs["memory"],
        "boundaries": [boundary._asdict() for boundary in stages.boundaries] if stages else [],
        "unsupported": [boundary._asdict() for boundary in stages.candidates] if stages else [],
        "stages": [stage._asdict() for stage in stages.stages] if stages else [],
        "checkpoints": rows,
        "diverged_chains": _diverged(results),
    }


def _diverged(results: xarray.Dataset) -> int:
    return int(results.llc_diverged.sum()) + int(results.head_llc_diverged.sum())


def _sampled(results: xarray.Dataset) -> list[int]:
    """Steps at which the whole model was sampled."""
    return [int(step) for step in where_measured(results, "llc").checkpoint.values]


def _crossings(results: xarray.Dataset) -> dict[str, tuple[float, int | None]]:
    """Predictor -> its loss, and the first saved step at which the model is at least as good."""
    found = {}
    for name, loss in figures.baselines(results).items():
        found[name] = (loss, crossing(results.step.values, results.loss.values, loss, falling=True))
    return found


def _induction(results: xarray.Dataset) -> dict[str, Any]:
    """The strongest induction head: when it formed, and what the LLCs did meanwhile."""
    layer, head = best_head(results, "prefix_matching")
    scores = results.prefix_matching.isel(layer=layer, head=head).values
    between = window(results.step.values, scores)
    whole = largest_change(results.llc, results.llc_std_error, between)
    own = results.isel(layer=layer, head=head)
    refined = largest_change(own.head_llc, own.head_llc_std_error, between)
    return {
        "head": head_name(layer, head), "score": float(scores[-1]), "formed_at": crossing(results.step.values, scores, FORMED),
        "window": list(between), "llc": whole._asdict(), "head_llc": refined._asdict(),
    }  # fmt: skip


def _story(results: xarray.Dataset) -> list[str]:
    sentences = []
    for name, (loss, step) in _crossings(results).items():
        when = f"reached at step {step:,}" if step is not None else "not reached"
        sentences.append(f"{name}: {loss:.3f} nats per token, {when}")
    found = _induction(results)
    whole, refined = found["llc"], found["head_llc"]
    formed = (
        f"passes {FORMED} at step {found['formed_at']:,}" if found["formed_at"] is not None else f"stays below {FORMED}"
    )
    return [
        f"Predictors that know less, and when the model is as good as they are: {'; '.join(sentences)}. "
        f"At the end its loss is {float(results.loss[-1]):.3f}.",
        f"The strongest induction head is {found['head']}: its prefix-matching score {formed} and ends at "
        f"{found['score']:.2f}. It forms between steps {found['window'][0]:,} and {found['window'][1]:,}. The largest moves "
        f"between checkpoints of that time: the LLC of the whole model by {_moved(whole)}; that head's refined LLC by "
        f"{_moved(refined)}.",
    ]


def _moved(change: dict[str, Any]) -> str:
    if not np.isfinite(change["change"]):
        return "a number that is not known, for fewer than two checkpoints of that time were sampled"
    return f"{change['change']:+.2f} ± {change['std_error']:.2f} from {change['start']:,} to {change['end']:,}"


def _table(results: xarray.Dataset) -> Table:
    head = [
        "step",
        "loss",
        "bigram score",
        "ICL score",
        "previous token, best",
        "prefix matching, best",
        "LLC",
        "± s.e.",
    ]
    rows = []
    for step in _sampled(results):
        here = results.sel(step=step, checkpoint=step)
        rows.append([
            f"{step:,}", f"{float(here.loss):.3f}", f"{float(here.bigram_score):.3f}", f"{float(here.icl_score):+.3f}",
            f"{float(here.previous_token.max()):.2f}", f"{float(here.prefix_matching.max()):.2f}",
            f"{float(here.llc):.1f}", f"{float(here.llc_std_error):.1f}",
        ])  # fmt: skip
    return Table(head, rows)


def _head_story(results: xarray.Dataset) -> list[str]:
    formed = []
    for score, kind in (("previous_token", "previous-token"), ("prefix_matching", "induction")):
        last = results[score].isel(step=-1).values
        names = [head_name(layer, head) for layer, head in np.argwhere(last > FORMED)]
        formed.append(f"{kind} heads (score above {FORMED}): {', '.join(names) or 'none'}")
    return [f"Heads are named layer:head, from 0. At the end, {'; '.join(formed)}."]


def _head_table(results: xarray.Dataset) -> Table:
    at = where_measured(results, "head_llc")
    rows = []
    for layer, head in np.ndindex(results.sizes["layer"], results.sizes["head"]):
        here, scores = at.isel(layer=layer, head=head), results.isel(layer=layer, head=head, step=-1)
        curve, errors = here.head_llc.values, here.head_llc_std_error.values
        peak = int(np.argmax(np.nan_to_num(curve, nan=-np.inf)))
        rows.append([
            head_name(layer, head), f"{float(scores.previous_token):.2f}", f"{float(scores.prefix_matching):.2f}",
            f"{curve[0]:.2f}", f"{curve[peak]:.2f} at {int(at.checkpoint[peak]):,}", f"{curve[-1]:.2f}", f"{errors[-1]:.2f}",
        ])  # fmt: skip
    first, last = int(at.checkpoint[0]), int(at.checkpoint[-1])
    names = [
        "head",
        "previous token",
        "prefix matching",
        f"refined LLC at {first:,}",
        "highest",
        f"at {last:,}",
        "± s.e.",
    ]
    return Table(names, rows)


def _diagnostics_table(results: xarray.Dataset) -> Table:
    head = ["step", "R-hat", "effective draws", "drift", "± s.e.", "Metropolis acceptance", "worst R-hat of a head"]
    rows = []
    for step in _sampled(results):
        here = results.sel(checkpoint=step)
        rows.append([
            f"{step:,}", f"{float(here.llc_rhat):.3f}", f"{float(here.llc_ess):.0f}", f"{float(here.llc_drift):+.1f}",
            f"{float(here.llc_drift_std_error):.1f}", f"{float(here.llc_acceptance):.2f}",
            f"{float(here.head_llc_rhat.max()):.3f}",
        ])  # fmt: skip
    return Table(head, rows)


def _warnings(results: xarray.Dataset) -> list[str]:
    count = _diverged(results)
    return [f"{count} chains diverged; their estimates are NaN. Use a smaller step size."] if count else []
