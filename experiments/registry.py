"""The list of experiments. Names and one-liners only, so that `--help` costs nothing; code is loaded when one is run."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["EXPERIMENTS", "Experiment", "UserError", "find"]


class UserError(Exception):
    """Something the user gave cannot be used; its one sentence goes to stderr and the exit code is 2."""


@dataclass(frozen=True)
class Experiment:
    """One result of a paper.

    `module` holds `run(config, folder)`, `report(folder)` and, where a configuration can contradict itself, `check(config)`,
    which raises `UserError` before anything is written; `configs` holds `CONFIGS`, name -> config.
    """

    name: str
    summary: str
    paper: str
    module: str
    configs: str

    def load(self) -> ModuleType:
        return import_module(self.module)

    def config_table(self) -> dict[str, Callable[[], Any]]:
        return import_module(self.configs).CONFIGS


EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "lrt-stages",
            "linear-regression transformers develop in stages LR1-LR5",
            "arXiv 2402.02364, figures 1 and 2",
            "experiments.lrt_stages",
            "configs.lrt_stages",
        ),
        Experiment(
            "transient-ridge",
            "transformers learn ridge regression in context, then give it up for the tasks they trained on",
            "arXiv 2501.17745, figures 1 and 2",
            "experiments.transient_ridge",
            "configs.transient_ridge",
        ),
        Experiment(
            "lm-stages",
            "small language models learn bigrams, n-grams, previous-token and induction heads, LM1-LM5",
            "arXiv 2402.02364, figures 1 and 3",
            "experiments.lm_stages",
            "configs.lm_stages",
        ),
        Experiment(
            "refined-llc",
            "attention heads told apart by their LLCs, refined by weights and by data",
            "arXiv 2410.02984, figures 2-5",
            "experiments.refined_llc",
            "configs.refined_llc",
        ),
        Experiment(
            "deep-linear-networks",
            "estimates on random deep linear networks against their exact local learning coefficient",
            "arXiv 2402.03698; 2308.12108, appendix J",
            "experiments.deep_linear_networks",
            "configs.deep_linear_networks",
        ),
        Experiment(
            "known-models",
            "every sampler on singular models whose exact value is known, and the coverage of its error bars",
            "arXiv 2308.12108",
            "experiments.known_models",
            "configs.known_models",
        ),
        Experiment(
            "digits",
            "a network trained on handwritten digits: every sampler beside the No-U-Turn sampler",
            "arXiv 2507.21449",
            "experiments.digits",
            "configs.digits",
        ),
        Experiment(
            "programs",
            "exact learning coefficients of noisy Turing machines, samplers beside them, and whether short is simple",
            "Clift, Murfet & Wallbridge 2021, Geometry of program synthesis",
            "experiments.programs",
            "configs.programs",
        ),
    )
}


def find(name: str) -> Experiment:
    """The experiment called `name`, or a `UserError` that names the close ones."""
    if name in EXPERIMENTS:
        return EXPERIMENTS[name]
    from difflib import get_close_matches

    close = get_close_matches(name, EXPERIMENTS, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"there are: {', '.join(EXPERIMENTS)}"
    raise UserError(f"no experiment '{name}'; {hint}")
