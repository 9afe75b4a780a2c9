"""Settings of language models, for configs: cheap to import, no JAX."""

from dataclasses import dataclass, field
from typing import Literal

from tyro.conf import AvoidSubcommands

__all__ = ["LanguageSettings", "Model", "Regime", "Shift", "Text", "Training", "Triggers"]


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


@dataclass(frozen=True)
class Regime:
    """What is done to a language model in each step of its training, beside the data; nothing by default.

    Each is drawn anew for every step; what is measured afterwards is the plain loss.
    """

    name: str = "plain"
    head_dropout: float = 0.0
    """Probability with which a head says nothing in a sequence; what the others say is divided by one minus it."""
    head_resampling: float = 0.0
    """Probability with which a head says in a sequence what it says in the one before."""
    weight_noise: float = 0.0
    """Standard deviation of Gaussian noise on every weight at which the gradient is taken."""
    ascent: float = 0.0
    """Length of the step uphill at whose end the gradient is taken (sharpness-aware minimisation, arXiv 2010.01412)."""
    begins: int = 0
    """Step from which on it is in force; plain before."""
    ends: int = 2**31 - 1
    """Step from which on training is plain again."""


@dataclass(frozen=True)
class Shift:
    """Further training on another language, from a fresh optimizer state."""

    language: int = 1
    """Number of the new language; 0 is the old one."""
    num_steps: int = 100
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
