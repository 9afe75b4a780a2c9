"""Configs of `refined-llc`: LLCs refined by weights, by data and by both (arXiv 2410.02984)."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from configs import lm_stages
from configs.lm_stages import LMStages, Refined

__all__ = ["CONFIGS", "RefinedLLC", "cpu", "demo", "paper"]


@dataclass(frozen=True)
class RefinedLLC:
    """Which model, and which parts of it on which data."""

    stages: LMStages = field(default_factory=LMStages)
    """The model and its training; its own sampling settings are not used."""
    trained_in: str = ""
    """Run folder of `lm-stages` with the same model and training, whose checkpoints are used; empty: train here."""
    refined: Refined = field(default_factory=Refined)
    """For the heads and for the whole model on each source."""
    sources: tuple[str, ...] = ()
    """Sources the data are refined to, beside the training data; empty for all there are."""
    num_clusters: int | None = None
    """Clusters of heads; by default as many as the silhouette likes best."""


def paper() -> RefinedLLC:
    """The paper's setting (arXiv 2410.02984, figures 2-5), on your own text.

    Command: python -m experiments refined-llc --config paper --trained-in RUN_OF_LM_STAGES
    Cost:    a GPU with 80 GB.
    Expect:  on the Pile: previous-token, current-token and induction heads lowest, multigram heads highest.
    """
    every = tuple(range(500, 50_001, 500))
    return RefinedLLC(stages=lm_stages.paper(), refined=Refined(layout="map", checkpoint_steps=every))


def cpu() -> RefinedLLC:
    """The model of `lm-stages --config cpu`, on each text of the corpus apart.

    Command: python -m experiments refined-llc --config cpu --trained-in RUN_OF_LM_STAGES
    Cost:    two cores; about an hour beside the training.
    """
    stages = lm_stages.cpu()
    steps = stages.refined.checkpoint_steps
    return RefinedLLC(stages=stages, refined=replace(stages.refined, num_draws=100, checkpoint_steps=steps))


def demo() -> RefinedLLC:
    """The synthetic model of `lm-stages --config demo`, on its own text and on the same language without triggers.

    Command: python -m experiments refined-llc --config demo
    Cost:    two cores, under 10 minutes.
    """
    stages = lm_stages.demo()
    refined = replace(stages.refined, checkpoint_steps=(200, 600, 1000, 1400, 2000, 3000))
    return RefinedLLC(stages=stages, refined=refined)


CONFIGS: dict[str, Callable[[], RefinedLLC]] = {"demo": demo, "cpu": cpu, "paper": paper}
