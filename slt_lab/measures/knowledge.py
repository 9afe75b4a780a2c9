"""What a language model knows: losses, what it has learned of the language, and what its heads do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from slt_jax.analysis import language_metrics as metrics
from slt_jax.models.language_model import attention_patterns
from slt_jax.typing import Params
from slt_lab.measure import Variable
from slt_lab.settings import up_to
from slt_lab.subjects.language_model import LanguageSubject, telling_passage

__all__ = ["Knowledge"]


@dataclass(frozen=True)
class Knowledge:
    """Losses, scores and attention at every step that is kept.

    Attributes:
        num_evaluation_sequences: fresh or held-out sequences the losses are of.
        num_probe_sequences: random sequences behind the scores of heads.
        also_at: further steps, those that are sampled say.
    """

    num_evaluation_sequences: int
    num_probe_sequences: int
    also_at: tuple[int, ...] = field(default=(), repr=False)
    name: str = "knowledge"
    axis: str = "step"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return up_to(subject.num_steps, (*subject.save_at, *self.also_at))

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        model, task, key = subject.model, subject.task, subject.probes_key
        evaluation = task.evaluation(self.num_evaluation_sequences)
        losses = metrics.losses_by_position(model, params, evaluation)
        count = self.num_probe_sequences
        passage = telling_passage(np.asarray(evaluation))
        row = {
            "loss": losses.mean(),
            "loss_position": losses,
            "icl_score": metrics.icl_score(losses),
            "bigram_score": metrics.bigram_score(key, model, params, evaluation, task.bigram),
            "positional_ablation": metrics.positional_ablation(model, params, evaluation),
            "previous_token": metrics.previous_token_scores(key, model, params, num_sequences=count),
            "prefix_matching": metrics.prefix_matching_scores(key, model, params, num_sequences=count),
            "attention": attention_patterns(model, params, jnp.asarray(passage[None]))[:, 0],
        }
        if model.num_layers > 1:
            row["k_composition"] = metrics.k_composition(params)
        for n, grams in task.ngrams.items():
            row[f"ngram_{n}"] = metrics.ngram_score(model, params, evaluation, grams, task.bos)
        return row

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        nats, heads = "nats per token", ("layer", "head")
        found = {
            "loss": Variable((), "loss on evaluation sequences", nats),
            "loss_position": Variable(("position",), "loss of predicting the token after each position", nats),
            "icl_score": Variable((), "loss late in the context minus loss early in it", nats),
            "bigram_score": Variable((), "cross-entropy to the bigrams of the language", "nats"),
            "positional_ablation": Variable((), "loss without positions minus loss", nats),
            "previous_token": Variable(heads, "attention to the previous token"),
            "prefix_matching": Variable(heads, "attention to what followed the same token before"),
            "attention": Variable((*heads, "query", "key"), "attention on a passage with repetitions"),
        }
        if subject.model.num_layers > 1:
            found["k_composition"] = Variable(("head", "later_head"), "K-composition of heads of successive layers")
        for n in subject.task.ngrams:
            found[f"ngram_{n}"] = Variable((), f"loss at the end of any {n} tokens over that of common {n}-grams")
        return found

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {}
