"""Configs of `refined-llc`: LLCs refined by weights, by data and by both (arXiv 2410.02984)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from configs import language_models
from configs.language_models import HEADS
from slt_lab.settings import Sampling
from slt_lab.subjects.language_settings import LanguageSettings

__all__ = ["CONFIGS", "RefinedLLC", "cpu", "demo", "paper"]


@dataclass(frozen=True)
class RefinedLLC(LanguageSettings):
    """Which model, and which parts of it on which data. A run folder beside this one with the same training spares it here."""

    refined: Sampling = HEADS
    """For the heads and for the whole model on each source."""
    sources: tuple[str, ...] = ()
    """Sources the data are refined to, beside the training data; empty for all there are."""
    num_clusters: int | None = None
    """Clusters of heads; by default as many as the silhouette likes best."""


def paper() -> RefinedLLC:
    """The paper's setting (arXiv 2410.02984, figures 2-5), on your own text.

    Command: python -m experiments refined-llc --config paper --data.huggingface OWNER/NAME --data.paths
    Cost:    a GPU with 80 GB; the training of `lm-stages --config paper` is taken over, if it is in the same folder of runs.
    Expect:  on the Pile: previous-token, current-token and induction heads lowest, multigram heads highest.
    """
    every = tuple(range(500, 50_001, 500))
    return RefinedLLC(
        **vars(language_models.paper()), refined=replace(HEADS, layout="map", checkpoint_steps=every)
    )  # fmt: skip


def cpu() -> RefinedLLC:
    """The model of `lm-stages --config english`, on each text of the corpus apart.

    Command: python -m experiments refined-llc --config cpu
    Cost:    two cores; about an hour beside the training, which is taken over from `lm-stages --config english`.
    """
    refined = replace(
        HEADS, num_examples=4096, batch_size=32, num_chains=2, num_draws=100, num_burnin=50, checkpoint_steps=(1000, 4000, 12_000)
    )  # fmt: skip
    return RefinedLLC(**vars(language_models.english()), refined=refined)


def demo() -> RefinedLLC:
    """The synthetic model of `lm-stages --config demo`, on its own text and on the same language without triggers.

    Command: python -m experiments refined-llc --config demo
    Cost:    two cores, under 10 minutes.
    """
    refined = replace(
        HEADS, num_examples=4096, batch_size=32, num_chains=2, num_draws=100, num_burnin=50,
        checkpoint_steps=(200, 600, 1000, 1400, 2000, 3000),
    )  # fmt: skip
    return RefinedLLC(**vars(language_models.demo()), refined=refined)


CONFIGS: dict[str, Callable[[], RefinedLLC]] = {"demo": demo, "cpu": cpu, "paper": paper}
