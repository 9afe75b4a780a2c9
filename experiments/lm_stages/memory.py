"""How much device memory a training step needs, read off the compiled program before anything runs."""

import jax
import optax

from experiments.lm_stages.tasks import Task
from experiments.registry import UserError
from slt_jax.models.language_model import LanguageModel, init, next_token_loss
from slt_jax.training.loop import init_train_state, train_steps

__all__ = ["training_memory"]


def training_memory(model: LanguageModel, task: Task, optimizer: optax.GradientTransformation) -> int:
    """Bytes of arguments, results and temporaries of the training program; nothing is allocated."""
    state = jax.eval_shape(lambda key: init_train_state(init(key, model), optimizer), jax.random.key(0))
    count = jax.ShapeDtypeStruct((), "int32")
    lowered = train_steps.lower(
        jax.random.key(0), state, task.data, count, loss_fn=next_token_loss(model), batch_fn=task.batches,
        update=optimizer.update,
    )  # fmt: skip
    memory = lowered.compile().memory_analysis()
    if memory is None:
        raise UserError("this backend does not report the memory of a compiled program")
    return int(memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes)
