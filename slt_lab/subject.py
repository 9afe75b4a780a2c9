"""A subject: what is trained and measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import optax

from slt_jax.training.loop import BatchFn
from slt_jax.typing import Batch, LossFn, Params, PRNGKey
from slt_lab.reporting import Reporter
from slt_lab.settings import up_to

__all__ = ["Subject"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with its data, and how it is trained, or its parameters as they are given.

    Families with more to ask about (the model itself, a tokenizer) are subclasses, in `slt_lab.subjects` or in an experiment.

    Attributes:
        name: short, for folders and progress bars: "seed_1".
        identity: every setting that the checkpoints follow from, and nothing else: frozen dataclasses, tuples, numbers. What
            prints the same is the same training, and is done once.
        loss_fn: `(params, batch) -> losses`, one per example.
        init: makes the parameters before training; or those to be measured, if nothing is trained.
        posterior_data: `count -> batch`, the fixed examples of the empirical loss.
        chains_key: noise of the chains; the same at every checkpoint, so that differences are sharper.
        num_steps: steps of training; 0 if the parameters are given.
        batches: `(key, step, data) -> batch`, pure.
        optimizer: an optax transformation, schedule included.
        training_key: step t uses `fold_in(training_key, t)`.
        save_at: steps whose parameters are kept in any case; those that a measure asks for are kept too.
        data: passed to `batches`.
    """

    name: str
    identity: Any
    loss_fn: LossFn
    init: Callable[[], Params]
    posterior_data: Callable[[int], Batch]
    chains_key: PRNGKey
    num_steps: int = 0
    batches: BatchFn | None = None
    optimizer: optax.GradientTransformation | None = None
    training_key: PRNGKey | None = None
    save_at: Sequence[int] = (0,)
    data: Any = None

    def sampled_steps(self, steps: Sequence[int]) -> list[int]:
        """`steps` as far as training goes; if there are none, all that are kept but an untrained model's, which is at no minimum."""
        named = up_to(self.num_steps, steps)
        if beyond := tuple(sorted(set(steps) - set(named))):
            _say_left_out(beyond, self.num_steps, bool(named))
        return named or [step for step in self.save_at if step > 0 or self.num_steps == 0]


@cache
def _say_left_out(beyond: tuple[int, ...], num_steps: int, some_are_left: bool) -> None:
    """A line on stderr, once a process, on checkpoints that training does not reach."""
    told = ", ".join(f"{step:,}" for step in beyond)
    instead = "the others are measured" if some_are_left else "all that are kept are measured instead"
    Reporter.say(f"checkpoint_steps {told}: beyond the {num_steps:,} steps of training, and left out; {instead}")
