"""Self-repair of a language model: what the damage of a head costs, and how much of it later layers make good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from slt_jax.analysis.ablation import NORMS, REPLACEMENTS, damage_heads, redundancy, repair
from slt_jax.typing import Params
from slt_lab.measure import Variable
from slt_lab.subjects.language_model import LanguageSubject

__all__ = ["Ablation"]


@dataclass(frozen=True)
class Ablation:
    """Direct and total effects of every head, repair R, redundancy Q and the worst head, at the checkpoints named.

    Attributes:
        num_sequences: evaluation sequences, at least 2.
        strengths: of the damage; R(0.1) stands for local repair.
        checkpoint_steps: empty for all that are kept but the untrained model's.
    """

    num_sequences: int
    strengths: tuple[float, ...] = (1.0, 0.1)
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)
    name: str = "ablation"
    axis: str = "checkpoint"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        tokens = jnp.asarray(subject.task.evaluation(self.num_sequences))
        found = damage_heads(subject.model, params, tokens, self.strengths)
        strengths = np.asarray(self.strengths)[None, :, None]
        return {
            "direct_effect": found.direct,
            "total_effect": found.total,
            "repair": repair(found.direct[None, None], found.total, strengths),
            "loss_rise": found.loss_rise,
            "joint_loss_rise": found.joint_loss_rise,
            "redundancy": redundancy(found.loss_rise, found.joint_loss_rise),
            "worst_head": found.loss_rise.max((-2, -1)),
        }

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        heads = ("replacement", "layer", "head")
        return {
            "direct_effect": Variable(heads, "direct effect of a head on the true token's logit", "nats"),
            "total_effect": Variable(
                ("norms", "strength", *heads), "total effect of a head on the true token's logit", "nats"
            ),
            "repair": Variable(("norms", "strength", "replacement"), "R, share of the damage that is made good"),
            "loss_rise": Variable(heads, "rise of the loss when a head is damaged", "nats per token"),
            "joint_loss_rise": Variable(heads[:2], "rise of the loss when all heads of a layer are", "nats per token"),
            "redundancy": Variable(heads[:1], "Q, one minus the heads' rises over the joint ones"),
            "worst_head": Variable(heads[:1], "largest rise of the loss by one head", "nats per token"),
        }

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {"norms": NORMS, "strength": self.strengths, "replacement": REPLACEMENTS}
