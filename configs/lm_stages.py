"""Configs of `lm-stages`: developmental stages of a small attention-only language model (arXiv 2402.02364)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from configs import language_models
from configs.language_models import HEADS, WHOLE
from slt_lab.settings import Sampling
from slt_lab.subjects.language_settings import LanguageSettings

__all__ = ["CONFIGS", "LMStages", "cpu", "demo", "english", "paper"]


SMALL: dict[str, Any] = {"num_examples": 4096, "batch_size": 32, "num_chains": 2, "num_burnin": 50}
"""What sampling a model of the scale of two cores needs."""


@dataclass(frozen=True)
class LMStages(LanguageSettings):
    """What to train on what, and how to measure it."""

    sampling: Sampling = WHOLE
    refined: Sampling = HEADS
    """For every head, the rest fixed."""


def paper() -> LMStages:
    """The paper's setting (arXiv 2402.02364, figure 1; 2410.02984 for the refined LLCs), on your own text.

    Command: python -m experiments lm-stages --config paper --data.huggingface OWNER/NAME --data.paths
    Cost:    a GPU with 80 GB; LM1-LM4 are over after 20k steps (--training.num-steps 20000).
    Expect:  on the Pile: LLC 123.6 (0), 149.9 (900), 172.4 (6.5k), 170.9 (8.5k), 179.6 (17k), 181.3 (50k);
             previous-token heads at 6.5k-8.5k, induction heads at 8.5k-17k.
    """
    every = tuple(range(100, 50_001, 500))
    return LMStages(
        **vars(language_models.paper()),
        sampling=replace(WHOLE, layout="map", checkpoint_steps=every),
        refined=replace(HEADS, layout="map", checkpoint_steps=every),
    )


def demo() -> LMStages:
    """Synthetic text whose stages are known, in minutes: bigrams, then previous-token heads with an induction head.

    Command: python -m experiments lm-stages --config demo
    Cost:    two cores, under 10 minutes.
    Expect:  loss below the bigram predictor's at step 100; a previous-token head (0:1) and four induction heads, whose
             prefix-matching scores pass 0.5 at step 1,200; LLC 3.1 (400), 5.3 (1,200), 3.7 (3,000), and the refined LLCs of
             those heads rise in the same window.
    """
    steps = (200, 400, 600, 800, 1000, 1200, 1400, 1600, 2000, 2500, 3000)
    small: dict[str, Any] = {"num_examples": 4096, "batch_size": 32, "num_chains": 2, "checkpoint_steps": steps}
    return LMStages(
        **vars(language_models.demo()),
        sampling=replace(WHOLE, num_draws=200, num_burnin=150, **small),
        refined=replace(HEADS, num_draws=100, num_burnin=50, **small),
    )


def cpu() -> LMStages:
    """C and technical prose at a scale for two cores: bigrams, n-grams, then a previous-token head and an induction head.

    Command: python scripts/build_corpus.py runs/linux --collection linux && python -m experiments lm-stages --config cpu
    """
    steps = (*range(200, 2000, 200), *range(2000, 6000, 400), *range(6000, 12_001, 600))
    return LMStages(
        **vars(language_models.linux()),
        sampling=replace(WHOLE, step_size=1e-3, num_draws=200, checkpoint_steps=steps, **SMALL),
        refined=replace(HEADS, num_draws=100, checkpoint_steps=(1000, 2800, 4400, 6000, 7200, 8400, 9600, 12_000), **SMALL),
    )  # fmt: skip


def english() -> LMStages:
    """English text at a scale for two cores: bigrams, then n-grams; 49M tokens, a twentieth of what the paper's heads took.

    Command: python scripts/build_corpus.py runs/corpus && python -m experiments lm-stages --config english
    Cost:    two cores, about an hour and a half (100 ms a training step on one core, 80 ms a sampling step).
    Expect:  held-out loss below the unigram entropy of the corpus by step 200 and below the bigram entropy by step 800; three
             heads of the second layer attend to the previous token in part, none becomes an induction head.
    """
    steps = (200, 300, 400, 600, 800, 1000, 1400, 2000, 2800, 4000, 5400, 7000, 9600, 12_000)
    return LMStages(
        **vars(language_models.english()),
        sampling=replace(WHOLE, step_size=1e-3, num_draws=200, checkpoint_steps=steps, **SMALL),
        refined=replace(HEADS, num_draws=100, checkpoint_steps=(1000, 4000, 12_000), **SMALL),
    )


CONFIGS: dict[str, Callable[[], LMStages]] = {"demo": demo, "cpu": cpu, "english": english, "paper": paper}
