"""The showing half of `lm-stages`: figures, tables and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from experiments.lm_stages import figures
from experiments.lm_stages.heads import best_head, change, crossing, head_name, window
from experiments.page import Section, Table, write_page
from experiments.run_folder import RunFolder

__all__ = ["report"]

FORMED = 0.5
"""A head whose score is above this is said to have formed."""


def report(folder: RunFolder) -> None:
    """Write figures, `summary.json` and `report.html`."""
    results = folder.read_results()
    folder.write_summary(summary(results))
    sections = [
        Section("Loss and LLC", _story(results), figures=[figures.development_figure(folder, results, [])]),
        Section("Checkpoint by checkpoint", table=_table(results)),
        Section("What it knows", figures=[figures.knowledge_figure(folder, results)]),
        Section(
            "Heads", _head_story(results), _head_table(results),
            [figures.heads_figure(folder, results), figures.attention_figure(folder, results)],
        ),
        Section(
            "Is the sampling to be trusted?",
            ["Drift is the estimate of the second half of the draws minus that of the first: several of its standard "
             "errors away from zero, the chain had not settled and the LLC is a lower bound."],
            _diagnostics_table(results), [figures.sampling_figure(folder, results)],
        ),
    ]  # fmt: skip
    lead = (
        "A small attention-only transformer learns to predict the next token (arXiv 2402.02364): first bigrams, then what "
        "its heads can fetch from the context. The LLC of the whole model and the refined LLC of every head "
        "(arXiv 2410.02984) show when, and in which head."
    )
    write_page(folder, f"lm-stages, config {folder.config_name}", lead, sections, _warnings(results))


def summary(results: xarray.Dataset) -> dict[str, Any]:
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
        "checkpoints": rows,
        "diverged_chains": int(results.diverged.sum()) + int(results.head_diverged.sum()),
    }


def _sampled(results: xarray.Dataset) -> list[int]:
    """Steps with a whole-model LLC."""
    return [int(step) for step in results.checkpoint.values[results.llc_rhat.notnull().values]]


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
    whole = change(results.llc, results.llc_std_error, between)
    own = results.isel(layer=layer, head=head)
    refined = change(own.head_llc, own.head_llc_std_error, between)
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
        f"{found['score']:.2f}. It forms between steps {found['window'][0]:,} and {found['window'][1]:,}. Between the "
        f"checkpoints {whole['start']:,} and {whole['end']:,} the LLC of the whole model moves by {whole['change']:+.1f} "
        f"± {whole['std_error']:.1f}, and that head's refined LLC by {refined['change']:+.1f} ± {refined['std_error']:.1f}.",
    ]


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
    at = results.where(results.head_llc.notnull().any(("layer", "head")), drop=True)
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
    count = int(results.diverged.sum()) + int(results.head_diverged.sum())
    return [f"{count} chains diverged; their estimates are NaN. Use a smaller step size."] if count else []
