"""The showing half of `lrt-stages`: figures, table and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.lrt_stages import LRTStages
from experiments.lrt_stages.authors import comparable, comparison_table
from experiments.lrt_stages.curves import curves_csv
from experiments.lrt_stages.figures import draw_figures
from experiments.lrt_stages.stages import PAPER_STAGES, find_stages, sampled
from slt_jax.analysis.stages import Stages
from slt_lab.page import Page, Section, Table
from slt_lab.stages import HOW_FOUND, stage_table

__all__ = ["page", "summary"]


def page(results: xarray.Dataset, config: LRTStages) -> Page:
    """The page of a run, with `curves.csv` beside it."""
    stages, estimated = find_stages(results), sampled(results)
    figures = draw_figures(results, stages, authors=comparable(config))
    sections = [
        Section("Loss and LLC", _story(estimated), figures=figures["development"], headline=_headline(estimated)),
        Section("The stages", _about_stages(), stage_table(stages), headline=_counted(stages)),
        *_beside_the_authors(estimated, config),
        Section("Checkpoint by checkpoint", table=_table(estimated)),
        Section("What it predicts and how it is built", _about_metrics(), figures=figures["metrics"]),
        *([Section("Part by part", _about_refined(), figures=figures["refined"])] if figures["refined"] else []),
        *([Section("The path of its outputs", figures=figures["dynamics"])] if figures["dynamics"] else []),
        Section(
            "Is the sampling to be trusted?",
            ["Drift is the estimate of the second half of the draws minus that of the first: several of its standard "
             "errors away from zero, the chain had not settled and the LLC is a lower bound."],
            _diagnostics_table(estimated),
            figures["sampling"],
        ),
    ]  # fmt: skip
    lead = (
        "A two-layer transformer learns linear regression in context (arXiv 2402.02364). The local learning coefficient "
        "(LLC) measures how degenerate the loss is around each checkpoint: it moves in stages that the loss hardly shows."
    )
    return Page(
        "lrt-stages", lead, sections, warnings=_diverged(results), summary=summary(estimated, stages),
        files={"curves.csv": curves_csv(results)},
    )  # fmt: skip


def summary(results: xarray.Dataset, stages: dict[int, Stages]) -> dict[str, Any]:
    """The numbers of the page's table."""
    rows = []
    for seed in results.seed.values:
        at = results.sel(seed=seed)
        for step in results.checkpoint.values:
            row: dict[str, float] = {"seed": int(seed), "step": int(step)}
            row |= {
                name: float(at[name].sel(checkpoint=step)) for name in ("llc", "llc_std_error", "llc_rhat", "llc_drift")
            }
            names = ("loss", "icl_score", "zero_prediction", "distance_to_ridge")
            row |= {name: float(at[name].sel(step=step)) for name in names}
            rows.append(row)
    found = {
        str(seed): {
            "boundaries": [boundary._asdict() for boundary in one.boundaries],
            "unsupported": [boundary._asdict() for boundary in one.candidates],
            "stages": [stage._asdict() for stage in one.stages],
        }
        for seed, one in stages.items()
    }
    return {"checkpoints": rows, "stages": found, "diverged_chains": int(results.llc_diverged.sum())}


def _counted(stages: dict[int, Stages]) -> str:
    """How many stages each seed has."""
    return "; ".join(f"seed {seed}: {len(one.stages)}" for seed, one in stages.items())


def _about_stages() -> list[str]:
    paper = "; ".join(f"{name} to {end}: loss {loss}, LLC {llc}" for name, end, loss, llc in PAPER_STAGES)
    return [
        HOW_FOUND,
        f"The paper's stages, 500,000 steps at full scale, its seed 1: {paper}.",
    ]


def _beside_the_authors(results: xarray.Dataset, config: LRTStages) -> list[Section]:
    if not comparable(config):
        return []
    text = (
        "Losses of the authors' seeds 0 and 1 are read off their curves; each of theirs is the mean over one batch of fresh "
        "sequences, ours over another. Their LLC and Hessian trace are means over their five seeds."
    )
    return [Section("Beside the authors' curves", [text], comparison_table(results))]


def _about_metrics() -> list[str]:
    return [
        "In-context learning shows as a falling loss on later examples while the first stays where it was. The ICL score on "
        "larger inputs or tasks, divided by their size g, says whether what was learned holds outside the training "
        "distribution. A LayerNorm weight near zero removes a direction of the residual stream: many such weights make the "
        "model simpler, and its LLC smaller. Attention entropy is 1 for uniform attention; variability is 0 for a head that "
        "only looks at positions."
    ]


def _about_refined() -> list[str]:
    return [
        "The refined LLC samples one part of the weights and keeps the rest: how much of the model's complexity that part "
        "holds (arXiv 2410.02984)."
    ]


def _peak_and_fall(results: xarray.Dataset, seed: int) -> dict[str, float]:
    """The largest LLC, and the lowest after it."""
    llc = results.llc.sel(seed=seed).values
    peak = int(np.nanargmax(llc))
    low = peak + int(np.nanargmin(llc[peak:]))
    error = results.llc_std_error.sel(seed=seed).values
    loss = results.loss.sel(seed=seed)
    steps = results.checkpoint.values
    return {
        "peak_step": steps[peak], "low_step": steps[low], "peak": llc[peak], "low": llc[low],
        "sigma": float((llc[peak] - llc[low]) / np.hypot(error[peak], error[low])),
        "loss_change": float(loss.sel(step=steps[low]) - loss.sel(step=steps[peak])),
        "loss_at_peak": float(loss.sel(step=steps[peak])),
    }  # fmt: skip


def _headline(results: xarray.Dataset) -> str:
    """The first seed in one line; nothing if its estimates are lost."""
    seed = results.seed.values[0]
    if not np.isfinite(results.llc.sel(seed=seed)).any():
        return ""
    found = _peak_and_fall(results, seed)
    if found["peak_step"] == found["low_step"]:
        return f"LLC {found['peak']:.0f} at step {found['peak_step']:,}"
    return (
        f"LLC {found['peak']:.0f} at step {found['peak_step']:,}, {found['low']:.0f} at {found['low_step']:,}; "
        f"loss {found['loss_change']:+.2f}"
    )


def _story(results: xarray.Dataset) -> list[str]:
    sentences = []
    for seed in results.seed.values:
        at = results.sel(seed=seed)
        if not np.isfinite(at.llc).any():
            sentences.append(f"Seed {seed}. Every estimate of the LLC diverged; there is no story to tell.")
            continue
        step = int(at.zero_prediction.where(at.step > 0).idxmin())
        smallest = float(at.zero_prediction.sel(step=step))
        turn = _peak_and_fall(results, seed)
        text = (
            f"Seed {seed}. At step {step} the model answers zero whatever it is asked (mean squared prediction "
            f"{smallest:.3f}). Then it learns in context: the loss falls from {float(at.loss.sel(step=step)):.2f} to "
            f"{turn['loss_at_peak']:.2f} by step {turn['peak_step']} while the LLC rises to {turn['peak']:.1f}."
        )
        if turn["low_step"] > turn["peak_step"]:
            text += (
                f" From there to step {turn['low_step']} the LLC falls by {turn['peak'] - turn['low']:.1f}, "
                f"{turn['sigma']:.0f} standard errors, while the loss moves by {turn['loss_change']:+.3f}."
            )
        sentences.append(text)
    return sentences


def _table(results: xarray.Dataset) -> Table:
    head = [
        "step",
        "loss",
        "ICL score",
        "zero prediction",
        "distance to ridge",
        "final norm collapsed",
        "LLC",
        "± s.e.",
    ]
    rows = []
    for seed in results.seed.values:
        at = results.sel(seed=seed)
        for step in results.checkpoint.values:
            here = at.sel(step=step, checkpoint=step)
            prefix = f"seed {seed}, " if results.seed.size > 1 else ""
            rows.append([
                f"{prefix}{step:,}", f"{float(here.loss):.3f}", f"{float(here.icl_score):.2f}",
                f"{float(here.zero_prediction):.3f}", f"{float(here.distance_to_ridge):.3f}",
                f"{float(here['collapse.final_norm']):.2f}", f"{float(here.llc):.1f}", f"{float(here.llc_std_error):.1f}",
            ])  # fmt: skip
    return Table(head, rows)


def _diagnostics_table(results: xarray.Dataset) -> Table:
    head = ["step", "R-hat", "effective draws", "drift", "± s.e.", "Metropolis acceptance", "diverged chains"]
    rows = []
    for seed in results.seed.values:
        for step in results.checkpoint.values:
            here = results.sel(seed=seed, checkpoint=step)
            prefix = f"seed {seed}, " if results.seed.size > 1 else ""
            rows.append([
                f"{prefix}{step:,}", f"{float(here.llc_rhat):.3f}", f"{float(here.llc_ess):.0f}",
                f"{float(here.llc_drift):+.1f}", f"{float(here.llc_drift_std_error):.1f}",
                f"{float(here.llc_acceptance):.2f}", f"{int(here.llc_diverged.sum())} of {here.llc_diverged.size}",
            ])  # fmt: skip
    return Table(head, rows)


def _diverged(results: xarray.Dataset) -> list[str]:
    chains = int(results.llc_diverged.sum())
    parts = int(results.refined_llc_diverged.sum()) if "refined_llc_diverged" in results else 0
    return [
        *(
            [f"{chains} chains diverged; their estimates are NaN. Use a smaller --sampling.step-size."]
            if chains
            else []
        ),
        *([f"{parts} refined LLCs diverged and are NaN. Use a smaller --refined.step-size."] if parts else []),
    ]
