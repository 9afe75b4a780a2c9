"""Settings of language models, for configs: cheap to import, no JAX."""

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import AvoidSubcommands

__all__ = ["LanguageSettings", "Model", "Text", "Training", "Triggers"]


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
class LanguageSettings:
    """What to train on what, and on how much the model is questioned. A config of language models begins with these."""

    seed: int = 0
    data: AvoidSubcommands[Triggers | Text] = field(default_factory=Text)
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    num_evaluation_sequences: int = 1024
    num_probe_sequences: int = 1024
    """Random sequences behind the previous-token and prefix-matching scores."""
