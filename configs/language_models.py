"""Language models that several experiments measure: the same settings are the same training, which is done once."""

from dataclasses import replace

from slt_lab.settings import Sampling
from slt_lab.subjects.language_settings import LanguageSettings, Model, Text, Training, Triggers

__all__ = ["HEADS", "WHOLE", "demo", "english", "linux", "paper"]

WHOLE = Sampling(
    num_examples=20_000, nbeta=21.7, localization=300.0, step_size=3e-3, batch_size=100, num_chains=20, num_draws=200, num_burnin=0
)  # fmt: skip
"""SGLD of the local posterior over all weights (arXiv 2402.02364)."""

HEADS = Sampling(
    num_examples=20_000, nbeta=30.0, localization=200.0, step_size=1e-3, batch_size=32, num_chains=4, num_draws=200, num_burnin=0
)  # fmt: skip
"""SGLD over the weights of one head, the rest fixed (arXiv 2410.02984)."""


def paper() -> LanguageSettings:
    """Two layers, eight heads, context 1,024 (arXiv 2402.02364, section 4), on your own text."""
    return LanguageSettings()


def demo() -> LanguageSettings:
    """A synthetic language whose stages are known, learned in a minute or two."""
    return LanguageSettings(
        data=Triggers(),
        model=Model(embed_dim=64, num_heads=4),
        training=Training(num_steps=3000, learning_rate=8e-3, weight_decay=0.0, batch_size=32, checkpoint_every=100),
        num_evaluation_sequences=256,
        num_probe_sequences=256,
    )


def linux() -> LanguageSettings:
    """C and technical prose at a scale for two cores: text that repeats itself within a sequence, and is read once."""
    return LanguageSettings(
        data=Text(context=128, vocab_size=1000, paths=("runs/linux",)),
        model=Model(embed_dim=128, num_heads=4),
        training=Training(num_steps=12_000, learning_rate=2e-3, batch_size=32, checkpoint_every=200),
        num_evaluation_sequences=256,
        num_probe_sequences=256,
    )


def english() -> LanguageSettings:
    """English text, otherwise as `linux`."""
    return replace(linux(), data=Text(context=128, vocab_size=1000))
