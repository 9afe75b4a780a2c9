"""The showing half of `influence`: scores, figures and page, from storage alone."""

from typing import Any

import numpy as np
import xarray

from configs.influence import Influence
from experiments.influence.scores import (
    Score,
    datamodelling_score,
    mean_rank_correlation,
    rank_correlation,
    reliability,
)
from slt_jax.plotting import STAGE_INKS
from slt_lab.page import Page, Picture, Section, Table

__all__ = ["page"]

FEWEST_DRAWS = 100
GROUPS = ("of the highest loss", "drawn at random")


def page(results: xarray.Dataset, config: Influence) -> Page:
    """The page of a run."""
    at = results.isel(checkpoint=0)
    rows, truth = _rows(at), _truth(at)
    scores = _group_scores(at, truth)
    lead = (
        "What would a test loss be, had one training image not been there? The truth is found by training again without it. "
        "Two predictions need no retraining: the Bayesian influence function, a covariance under the local posterior of the "
        "trained network (arXiv 2509.26544), and the classical influence function, a product with the inverse Hessian."
    )
    sections = [
        Section("Which ranks the examples right?", _story(at, rows, truth), _table(rows), [_scatter(at, truth)]),
        Section("Where they fail", _failures(at, truth), _group_table(at, truth, scores)),
        Section("Random parts of the data", _about_parts(at, config), figures=[_parts(at)]),
        Section("Is the sampling to be trusted?", _about_sampling(at)),
    ]
    lost = int(results.bayesian_diverged.sum())
    warnings = [f"{lost} chains diverged; the Bayesian influence is NaN."] if lost else []
    return Page("influence", lead, sections, warnings, _summary(at, rows, truth, scores, lost))


def _truth(at: xarray.Dataset) -> np.ndarray:
    """Change of every query when an example is left out, `(example, retraining, query)`."""
    return np.asarray(at.loss_without.values - at.loss_with_all.values[None], np.float64)


def _predictions(at: xarray.Dataset) -> dict[str, np.ndarray]:
    """Name -> `(query, example)`."""
    classical = {f"classical, damping {float(d):.2g}": at.classical.sel(damping=d).values for d in at.damping.values}
    return {"Bayesian": at.bayesian.values, **classical}


def _rows(at: xarray.Dataset) -> list[dict[str, Any]]:
    """The scores of every prediction."""
    truth, left_out, rows = _truth(at), at.left_out.values.astype(int), []
    member, parts = at.member.values.astype(float), at.loss_of_part.values
    for name, effects in _predictions(at).items():
        predicted = effects[:, left_out].T
        own = mean_rank_correlation(predicted, truth[:, 0])
        rows.append({
            "name": name, "rank": rank_correlation(predicted, truth), "own": own, "slope": _slope(predicted, truth),
            "parts": datamodelling_score(effects, member, parts),
        })  # fmt: skip
    return rows


def _slope(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Least squares through 0 of truth on prediction: 1 if sizes are right, below if predictions are too large."""
    return float(np.sum(predicted * truth.mean(axis=1)) / np.sum(predicted**2))


def _told(score: Score) -> str:
    return f"{score.value:.2f} ± {score.std_error:.2f}"


def _table(rows: list[dict[str, Any]]) -> Table:
    head = [
        "prediction",
        "rank correlation with leaving one out",
        "the same from its own initial weights",
        "slope of the truth",
        "datamodelling score",
    ]
    return Table(
        head, [[row["name"], _told(row["rank"]), f"{row['own']:.2f}", f"{row['slope']:.2f}", _told(row["parts"])] for row in rows]
    )  # fmt: skip


def _story(at: xarray.Dataset, rows: list[dict[str, Any]], truth: np.ndarray) -> list[str]:
    best = max(rows, key=lambda row: np.nan_to_num(row["rank"].value, nan=-2.0))
    error = truth.std(axis=1, ddof=1) / np.sqrt(truth.shape[1])
    sure = np.mean(np.abs(truth.mean(axis=1)) > 2 * error)
    lowest = float(at.curvatures.min())
    missing = [row["name"] for row in rows if not np.isfinite(row["rank"].value)]
    told = [
        f"{truth.shape[0]} images are left out one at a time, {truth.shape[1]} retrainings each, the loss of {truth.shape[2]} test "
        f"images is asked about. {sure:.0%} of the changes are more than two of their standard errors from zero, so a perfect "
        f"prediction can expect a rank correlation of {reliability(truth):.2f} with the mean of the retrainings.",
        f"Best is: {best['name']}, {_told(best['rank'])}. A correlation is the mean over test images; its error is that of other "
        "images, test images and retrainings. The Bayesian influence is to agree with the classical one at the first damping, "
        "γ/nβ, where the loss is quadratic on the scale of the posterior.",
        f"At the trained parameters the length of the gradient is {float(at.gradient_norm):.1e}, the lowest eigenvalue of the "
        f"Hessian {lowest:.1e}; {float(at.train_accuracy):.1%} of the training and {float(at.test_accuracy):.1%} of the test images are right.",
    ]  # fmt: skip
    if missing:
        told.append(f"Not defined, since the Hessian with its damping is not positive definite: {', '.join(missing)}.")
    return told


def _groups(at: xarray.Dataset) -> dict[str, slice]:
    half = at.left_out.size // 2
    return dict(zip(GROUPS, (slice(None, half), slice(half, None)), strict=True))


def _group_scores(at: xarray.Dataset, truth: np.ndarray) -> dict[str, dict[str, Score]]:
    left_out = at.left_out.values.astype(int)
    return {
        name: {
            group: rank_correlation(effects[:, left_out[part]].T, truth[part]) for group, part in _groups(at).items()
        }
        for name, effects in _predictions(at).items()
    }


def _group_table(at: xarray.Dataset, truth: np.ndarray, scores: dict[str, dict[str, Score]]) -> Table:
    rows = [[name, *map(_told, groups.values())] for name, groups in scores.items()]
    limits = ["the best there can be", *(f"{reliability(truth[part]):.2f}" for part in _groups(at).values())]
    return Table(["prediction", *(f"images {group}" for group in GROUPS)], [*rows, limits])


def _failures(at: xarray.Dataset, truth: np.ndarray) -> list[str]:
    sizes = {group: float(np.sqrt(np.mean(truth[part].mean(axis=1) ** 2))) for group, part in _groups(at).items()}
    noise = {
        group: float(np.sqrt(np.mean(truth[part].var(axis=1, ddof=1) / truth.shape[1]))) for group, part in _groups(at).items()
    }  # fmt: skip
    told = "; ".join(f"images {group} {sizes[group]:.1e} nats, of which noise {noise[group]:.1e}" for group in GROUPS)
    return [
        "Half of the images left out are those of the highest training loss, half are drawn from the others. Root mean square "
        f"of the true change: {told}. Where the truth itself is noise there is nothing to predict."
    ]  # fmt: skip


def _about_parts(at: xarray.Dataset, config: Influence) -> list[str]:
    limit = reliability(at.loss_of_part.values)
    return [
        f"{at.sizes['part']} random parts hold {config.retraining.subset_share:.0%} of the data each; the change of a test loss is "
        "predicted by adding up what is left out (linear datamodelling score, the last column above). A perfect prediction can "
        f"expect {limit:.2f}. So much left out is no small change, and a linear prediction need not hold."
    ]  # fmt: skip


def _about_sampling(at: xarray.Dataset) -> list[str]:
    ess = at.bayesian_ess.values
    share = float(np.sqrt(np.mean(at.bayesian_std_error.values**2) / np.mean(at.bayesian.values**2)))
    return [
        f"Effective draws of the products: median {np.median(ess):.0f}, fewest {ess.min():.0f}; an error bar wants {FEWEST_DRAWS}. "
        f"Share of the covariance between chains: {float(at.bayesian_between):.0%}. The standard error of the Bayesian influence "
        f"is {share:.0%} of its size, root mean squares over all pairs."
    ]  # fmt: skip


def _summary(
    at: xarray.Dataset, rows: list[dict[str, Any]], truth: np.ndarray, scores: dict[str, dict[str, Score]], lost: int
) -> dict[str, Any]:
    return {
        "predictions": [{**row, "rank": row["rank"]._asdict(), "parts": row["parts"]._asdict()} for row in rows],
        "reliability": {"left_out": reliability(truth), "parts": reliability(at.loss_of_part.values)},
        "groups": {
            name: {group: score._asdict() for group, score in groups.items()} for name, groups in scores.items()
        },
        "bayesian_with_classical": mean_rank_correlation(at.bayesian.values.T, at.classical.values[0].T),
        "gradient_norm": float(at.gradient_norm), "lowest_curvature": float(at.curvatures.min()),
        "train_accuracy": float(at.train_accuracy), "test_accuracy": float(at.test_accuracy),
        "effective_draws": float(np.median(at.bayesian_ess)), "diverged_chains": lost,
    }  # fmt: skip


def _scatter(at: xarray.Dataset, truth: np.ndarray) -> Picture:
    """Predicted against true changes, a panel for each of the first two predictions that are defined."""
    import matplotlib.pyplot as plt

    left_out = at.left_out.values.astype(int)
    defined = [(name, effects) for name, effects in _predictions(at).items() if np.isfinite(effects).all()]
    shown = dict(defined[:2])
    mean, error = truth.mean(axis=1), truth.std(axis=1, ddof=1) / np.sqrt(truth.shape[1])
    figure, grid = plt.subplots(1, 2, figsize=(10.5, 4.6), layout="constrained", sharey=True)
    axes = grid[: len(shown)]
    for ax in grid[len(shown) :]:
        ax.set_visible(False)
    for ax, (name, effects) in zip(axes, shown.items(), strict=True):
        for (group, part), color in zip(_groups(at).items(), STAGE_INKS, strict=False):
            x, y, bar = (values.ravel() for values in (effects[:, left_out[part]].T, mean[part], error[part]))
            sure = np.abs(y) > 2 * bar
            ax.plot(x[~sure], y[~sure], ".", color=color, markersize=3, alpha=0.25)
            ax.errorbar(
                x[sure], y[sure], bar[sure], fmt="o", color=color, markersize=4, elinewidth=0.8, label=f"images {group}"
            )
        reach = np.abs(effects[:, left_out]).max()
        ax.plot(
            [-reach, reach], [-reach, reach], color="0.4", linewidth=0.8, linestyle="--", label="truth = prediction"
        )
        for scale in (ax.set_xscale, ax.set_yscale):
            scale("symlog", linthresh=1e-3)
        ax.set_title(name, fontsize=10)
        ax.set_xlabel("predicted change of a test loss (nats)")
    grid[0].set_ylabel("change on leaving one out (nats, ± 1 s.e.)")
    grid[0].legend(fontsize=7)
    caption = (
        "Every image left out and every test image. Changes that are more than two standard errors from zero have their error "
        "bars, the others are faint. Axes are linear below 0.001 nats and logarithmic beyond."
    )
    return Picture("left_out", figure, caption)


def _parts(at: xarray.Dataset) -> Picture:
    """Score on random parts of every test image, the predictions side by side."""
    import matplotlib.pyplot as plt

    member, truth = at.member.values.astype(float), at.loss_of_part.values.mean(axis=1)
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    scores, names = [], []
    for name, effects in _predictions(at).items():
        if not np.isfinite(effects).all():
            continue
        predicted = (1 - member) @ effects.T
        scores.append([mean_rank_correlation(predicted[:, [q]], truth[:, [q]]) for q in range(truth.shape[1])])
        names.append(name)
    ax.boxplot(scores, orientation="horizontal", tick_labels=names)
    ax.invert_yaxis()
    ax.axvline(0, color="0.5", linewidth=0.8)
    ax.set_xlabel("rank correlation over the parts, of each test image")
    return Picture(
        "parts",
        figure,
        "Linear datamodelling scores of single test images: median, quartiles, range without outliers (circles).",
    )
