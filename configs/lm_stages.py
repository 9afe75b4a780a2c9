"""Configs of `lm-stages`: developmental stages of a small attention-only language model (arXiv 2402.02364)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import AvoidSubcommands

__all__ = ["CONFIGS", "LMStages", "Model", "Refined", "Sampling", "Text", "Training", "Triggers", "demo", "paper"]


@dataclass(frozen=True)
class Triggers:
    """Global bigrams with per-sequence triggers (arXiv 2306.00802): bigrams first, then an induction head."""

    context: int = 64
    vocab_size: int = 32
    num_triggers: int = 16
    concentration: float = 0.1


@dataclass(frozen=True)
class Text:
    """Text files or a Hugging Face dataset, tokenized here by a byte-level BPE and packed into the run folder."""

    context: int = 1024
    vocab_size: int = 5000
    paths: tuple[str, ...] = ("runs/corpus",)
    """UTF-8 files or folders of them; the default is what `scripts/build_corpus.py runs/corpus` leaves."""
    huggingface: tuple[str, ...] = ()
    """Names of Hugging Face datasets, streamed; each is a source."""
    num_documents: int | None = None
    """Documents taken from each Hugging Face dataset; all by default."""
    held_out: float = 0.05


@dataclass(frozen=True)
class Model:
    """An attention-only transformer, or one with MLPs."""

    embed_dim: int = 256
    num_heads: int = 8
    num_layers: int = 2
    mlp_dim: int = 0
    positions: Literal["shortformer", "learned"] = "shortformer"


@dataclass(frozen=True)
class Training:
    """AdamW at a constant learning rate."""

    num_steps: int = 50_000
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    batch_size: int = 100
    checkpoint_every: int = 100
    """A checkpoint each so many steps, from 0 on."""


@dataclass(frozen=True)
class Sampling:
    """SGLD of the local posterior over all weights."""

    num_examples: int = 20_000
    """n: fixed sequences the empirical loss averages over."""
    nbeta: float = 21.7
    localization: float = 300.0
    step_size: float = 3e-3
    batch_size: int = 100
    num_chains: int = 20
    num_draws: int = 200
    num_burnin: int = 0
    checkpoint_steps: tuple[int, ...] = ()
    """Checkpoints whose LLC is estimated; empty for all."""
    layout: Literal["auto", "vmap", "map"] = "auto"
    """Chains of a device side by side (`vmap`) or one after the other (`map`, less memory)."""


@dataclass(frozen=True)
class Refined(Sampling):
    """SGLD over the weights of one head, the rest fixed (arXiv 2410.02984)."""

    nbeta: float = 30.0
    localization: float = 200.0
    step_size: float = 1e-3
    batch_size: int = 32
    num_chains: int = 4


@dataclass(frozen=True)
class LMStages:
    """What to train on what, and how to measure it."""

    seed: int = 0
    data: AvoidSubcommands[Triggers | Text] = field(default_factory=Text)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    sampling: Sampling = field(default_factory=Sampling)
    refined: Refined = field(default_factory=Refined)
    num_evaluation_sequences: int = 1024
    num_probe_sequences: int = 1024
    """Random sequences behind the previous-token and prefix-matching scores."""


def paper() -> LMStages:
    """The paper's setting (arXiv 2402.02364, figure 1; 2410.02984 for the refined LLCs), on your own text.

    Command: python -m experiments lm-stages --config paper --data.huggingface OWNER/NAME --data.paths
    Cost:    a GPU with 80 GB; LM1-LM4 are over after 20k steps (--training.num-steps 20000).
    Expect:  on the Pile: LLC 123.6 (0), 149.9 (900), 172.4 (6.5k), 170.9 (8.5k), 179.6 (17k), 181.3 (50k);
             previous-token heads at 6.5k-8.5k, induction heads at 8.5k-17k.
    """
    every = tuple(range(100, 50_001, 500))
    return LMStages(
        sampling=Sampling(layout="map", checkpoint_steps=every),
        refined=Refined(layout="map", checkpoint_steps=every),
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
    return LMStages(
        data=Triggers(),
        model=Model(embed_dim=64, num_heads=4),
        training=Training(num_steps=3000, learning_rate=8e-3, weight_decay=0.0, batch_size=32, checkpoint_every=100),
        sampling=Sampling(
            num_examples=4096, batch_size=32, num_chains=2, num_draws=200, num_burnin=150, checkpoint_steps=steps
        ),
        refined=Refined(
            num_examples=4096, batch_size=32, num_chains=2, num_draws=100, num_burnin=50, checkpoint_steps=steps
        ),
        num_evaluation_sequences=256,
        num_probe_sequences=256,
    )


def cpu() -> LMStages:
    """English text at a scale for two cores: bigrams, then n-grams; 49M tokens, a twentieth of what the paper's heads took.

    Command: python scripts/build_corpus.py runs/corpus && python -m experiments lm-stages --config cpu
    Cost:    two cores, about an hour and a half (100 ms a training step on one core, 80 ms a sampling step).
    Expect:  held-out loss below the unigram entropy of the corpus by step 200 and below the bigram entropy by step 800; three
             heads of the second layer attend to the previous token in part, none becomes an induction head.
    """
    steps = (200, 300, 400, 600, 800, 1000, 1400, 2000, 2800, 4000, 5400, 7000, 9600, 12_000)
    return LMStages(
        data=Text(context=128, vocab_size=1000),
        model=Model(embed_dim=128, num_heads=4),
        training=Training(num_steps=12_000, learning_rate=2e-3, batch_size=32, checkpoint_every=200),
        sampling=Sampling(
            num_examples=4096, step_size=1e-3, batch_size=32, num_chains=2, num_draws=200, num_burnin=50,
            checkpoint_steps=steps,
        ),
        refined=Refined(
            num_examples=4096, batch_size=32, num_chains=2, num_draws=100, num_burnin=50,
            checkpoint_steps=(1000, 4000, 12_000),
        ),
        num_evaluation_sequences=256,
        num_probe_sequences=256,
    )  # fmt: skip


CONFIGS: dict[str, Callable[[], LMStages]] = {"demo": demo, "cpu": cpu, "paper": paper}
