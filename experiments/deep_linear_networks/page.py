"""The showing half of `deep-linear-networks`: tables, figures and page, from storage alone."""

from typing import Any

import xarray

from configs.deep_linear_networks import DeepLinearNetworks
from experiments.deep_linear_networks.accuracy import accuracy, sides_with_local
from experiments.deep_linear_networks.figures import draw_figures
from slt_lab.page import Page, Section, Table

__all__ = ["networks_csv", "page", "summary"]

KEYS = (
    "median_abs_relative_error", "p90_abs_relative_error", "median_relative_error", "order_preservation", "nan_share",
    "gradient_evaluations", "seconds", "networks",
)  # fmt: skip

HESSIAN_SHARE = 0.8
GAPS = (0.1, 0.15, 0.2)


def page(results: xarray.Dataset, config: DeepLinearNetworks) -> Page:
    """The page of a run, with `networks.csv`."""
    numbers, figures = summary(results), draw_figures(results, config)
    sections = [
        Section(
            f"Class {name}",
            [
                "Against the exact local learning coefficient where its two independent bounds meet; below, the same "
                "against the theorem's value at every network, and against Aoyagi's value of the deepest point."
            ],
            _table(settings),
            figures[name],
        )
        for name, settings in numbers.items()
    ]
    lead = (
        "Random deep linear networks as in the published accuracy study (arXiv 2402.03698); `study` is that study's own "
        "setting. Every setting is one rule for all networks."
    )
    lost = int(results.llc_diverged.sum())
    warnings = [f"{lost} estimates diverged and are NaN."] if lost else []
    if left := int(results.excursion.sum()):
        warnings.append(f"{left} chains spent some draws far above their level (column `excursion` of networks.csv).")
    return Page(
        "deep-linear-networks", lead, sections, warnings, numbers, files={"networks.csv": networks_csv(results)}
    )


def summary(results: xarray.Dataset) -> dict[str, Any]:
    """Class -> setting -> numbers; the eight keys are over certified networks, `all` and `aoyagi` over every network.

    `higher_orders` is over the certified networks whose Hessian explains less than `HESSIAN_SHARE` of λ; `sides_with_local`
    counts, over every network, the estimates nearer to the local value than to Aoyagi's, where those are apart.
    """
    numbers: dict[str, Any] = {}
    for name in results["class"].values:
        at_class = results.sel({"class": name})
        numbers[str(name)] = {}
        for setting in results.setting.values:
            at = at_class.sel(setting=setting)
            measured = at.measured.values
            if not measured.any():
                continue
            certified = measured & at.certified.values
            higher_orders = certified & (at.half_hessian_rank.values < HESSIAN_SHARE * at.upper.values)
            costs = {key: float(at[key].values[measured].mean()) for key in ("gradient_evaluations", "seconds")}
            numbers[str(name)][str(setting)] = {
                **accuracy(at.llc.values[certified], at.upper.values[certified]),
                **costs,
                "excursions": int(at.excursion.values[measured].sum()),
                "all": accuracy(at.llc.values[measured], at.upper.values[measured]),
                "aoyagi": accuracy(at.llc.values[measured], at.aoyagi.values[measured]),
                "higher_orders": accuracy(at.llc.values[higher_orders], at.upper.values[higher_orders]),
                "sides_with_local": {
                    f"{gap:g}": sides_with_local(
                        at.llc.values[measured], at.upper.values[measured], at.aoyagi.values[measured], gap
                    )
                    for gap in GAPS
                },
            }
    return numbers


def _table(settings: dict[str, Any]) -> Table:
    head = ["setting", "truth", "median |error|", "90th percentile", "signed median", "order", "NaN", "gradients", "seconds", "networks"]  # fmt: skip
    rows = []
    for setting, numbers in settings.items():
        for truth, block in {"certified": numbers, "all": numbers["all"], "Aoyagi": numbers["aoyagi"]}.items():
            rows.append([
                setting, truth,
                *(f"{100 * block[key]:.1f}%" for key in KEYS[:3]),
                f"{block['order_preservation']:.3f}", f"{100 * block['nan_share']:.1f}%",
                f"{numbers['gradient_evaluations']:,.0f}", f"{numbers['seconds']:.1f}", str(block["networks"]),
            ])  # fmt: skip
    return Table(head, rows)


def networks_csv(results: xarray.Dataset) -> str:
    """`networks.csv`: one row per class, setting and network."""
    columns = (
        "llc",
        "llc_std_error",
        "llc_diverged",
        "excursion",
        "gradient_evaluations",
        "seconds",
        "step_size",
        "metric_rank",
    )
    truths = ("lower", "upper", "certified", "half_hessian_rank", "aoyagi", "multiplicity_bound", "num_parameters")
    names = [name.removeprefix("llc_") if name == "llc_diverged" else name for name in columns]
    lines = [",".join(("class", "setting", "seed", *truths, *names))]
    for name in results["class"].values:
        for setting in results.setting.values:
            for seed in results.seed.values:
                at = results.sel({"class": name, "setting": setting, "seed": seed})
                if not at.measured:
                    continue
                cells = [f"{float(at[key]):.6g}" for key in (*truths, *columns)]
                lines.append(",".join((str(name), str(setting), str(int(seed)), *cells)))
    return "\n".join(lines) + "\n"
