"""How a language model resists further training: what it forgets, how far its heads move, how fast they recover from noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.analysis.heads import half_life, head_movement, noisy_head, prediction_distance
from slt_jax.analysis.language_metrics import losses_by_position
from slt_jax.typing import Params
from slt_lab.measure import Variable
from slt_lab.streams import stream
from slt_lab.subjects.language_model import LanguageSubject
from slt_lab.subjects.language_settings import Shift
from slt_lab.subjects.shifts import other_sequences, train_on

__all__ = ["Forgetting", "HeadMovement", "HeadRecovery"]


@dataclass(frozen=True)
class Forgetting:
    """The loss on the old language before and after training on a new one.

    Attributes:
        shift: the further training.
        num_sequences: fresh sequences of each language.
        checkpoint_steps: empty for all that are kept but the untrained model's.
    """

    shift: Shift
    num_sequences: int
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)
    name: str = "forgetting"
    axis: str = "checkpoint"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        after, model = train_on(subject, params, self.shift), subject.model
        old, new = (other_sequences(subject, number, self.num_sequences) for number in (0, self.shift.language))
        losses = {
            f"{name}_loss_{when}": losses_by_position(model, one, tokens).mean()
            for name, tokens in (("old", old), ("new", new))
            for when, one in (("before", params), ("after", after))
        }
        return {**losses, "forgetting": losses["old_loss_after"] - losses["old_loss_before"]}

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        found = {
            f"{name}_loss_{when}": Variable((), f"loss on the {name} language {when} the shift", "nats per token")
            for name in ("old", "new")
            for when in ("before", "after")
        }
        return {**found, "forgetting": Variable((), "rise of the loss on the old language", "nats per token")}

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {}


@dataclass(frozen=True)
class HeadMovement:
    """How far the function of each head has moved after training on a new language; fields as those of `Forgetting`."""

    shift: Shift
    num_sequences: int
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)
    name: str = "head movement"
    axis: str = "checkpoint"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        after, tokens = train_on(subject, params, self.shift), other_sequences(subject, 0, self.num_sequences)
        return {
            "head_movement": head_movement(subject.model, params, after, tokens),
            "model_movement": prediction_distance(subject.model, params, after, tokens),
        }

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        words = "KL of the predictions on the old language, before the shift against"
        return {
            "head_movement": Variable(("layer", "head"), f"{words} with one head exchanged", "nats per token"),
            "model_movement": Variable((), f"{words} after it", "nats per token"),
        }

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {}


@dataclass(frozen=True)
class HeadRecovery:
    """Noise on one head, then training on the old language again: how fast the excess of the loss is halved.

    Excess is that over the model trained on without noise. It is looked at after `looks` steps of training.

    Attributes:
        shift: how training goes on; language 0 is the old one. Its number of steps is not used: `looks` says how many.
        size: of the noise, in root mean squares of the head's arrays.
        num_sequences: fresh sequences the loss is of.
        looks: ascending, from 0.
    """

    shift: Shift
    size: float
    num_sequences: int
    looks: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32, 64)
    checkpoint_steps: tuple[int, ...] = field(default=(), repr=False)
    name: str = "head recovery"
    axis: str = "checkpoint"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        tokens, key = other_sequences(subject, 0, self.num_sequences), stream("language/head noise")

        def losses(start: Params) -> np.ndarray:
            trained = (train_on(subject, start, self.shift, num_steps=look) for look in self.looks)
            return np.array([losses_by_position(subject.model, one, tokens).mean() for one in trained])

        quiet, model = losses(params), subject.model
        excess = np.array(
            [
                [losses(noisy_head(jax.random.fold_in(key, layer * model.num_heads + head), params, layer, jnp.asarray(head), self.size)) - quiet for head in range(model.num_heads)]
                for layer in range(model.num_layers)
            ]
        )  # fmt: skip
        return {"recovery_excess": excess, "recovery_half_life": half_life(np.asarray(self.looks, float), excess)}

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        return {
            "recovery_excess": Variable(
                ("layer", "head", "look"), "excess loss after noise on a head", "nats per token"
            ),
            "recovery_half_life": Variable(
                ("layer", "head"), "steps until that is halved; infinite if it is not", "steps"
            ),
        }

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        del subject
        return {"look": self.looks}
