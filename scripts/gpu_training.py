"""Trainings of `gpu_figures.py`: five regression transformers side by side, and the language model at the paper's setting.

Both go on from what an earlier run left, to the same bits, and stop when the minutes are over.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gpu_output import Clock, Output

from configs import language_models
from configs.lrt_stages import LRTStages, Model, Training
from experiments.lrt_stages.subject import model_of
from slt_jax.analysis.language_metrics import prefix_matching_scores, previous_token_scores
from slt_jax.data.packing import TokenBatches, load_corpus, windows
from slt_jax.data.sequences import TriggerBigrams, trigger_batches
from slt_jax.models.language_model import LanguageModel, init, next_token_loss
from slt_jax.training.loop import init_train_state, next_steps, train_steps
from slt_lab.streams import stream
from slt_lab.subjects.language_model import adamw
from slt_lab.subjects.regression_transformer import RegressionSubject, regression_subject

SAVE_SECONDS = 60.0


class LanguageSize(NamedTuple):
    """Shape of the language model and how far it is trained."""

    vocab_size: int
    context: int
    embed_dim: int
    num_heads: int
    batch_size: int
    num_steps: int


def lrt_config(width: int, num_steps: int, batch_size: int) -> LRTStages:
    """The paper's training of the regression transformer, at another size for a rehearsal."""
    training = Training(num_steps=num_steps, schedule_steps=num_steps, batch_size=batch_size)
    return LRTStages(model=Model(width=width, hidden=width), training=training)


def lrt_subject(config: LRTStages, seed: int) -> RegressionSubject:
    """The subject that `lrt-stages` trains for this seed."""
    training = config.training
    return regression_subject(
        seed, model_of(config), num_steps=training.num_steps, schedule_steps=training.schedule_steps,
        peak_learning_rate=training.peak_learning_rate, batch_size=training.batch_size,
    )  # fmt: skip


def train_lrt(
    config: LRTStages,
    seeds: Sequence[int],
    keep: Sequence[int],
    output: Output,
    clock: Clock,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All seeds in one program, to the end or until the minutes are over; parameters are kept at the steps `keep`."""
    subjects = [lrt_subject(config, seed) for seed in seeds]
    one = subjects[0]
    assert one.optimizer is not None
    keys = jnp.stack([subject.training_key for subject in subjects])
    states = [init_train_state(subject.init(), subject.optimizer) for subject in subjects]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    advance = _side_by_side(one.loss_fn, one.batches, one.optimizer.update)
    header = {"seeds": list(seeds), "setting": repr((config.model, config.training))}
    training = _Training(output, "lrt", header, keep, state)
    return _train(training, lambda state, count, block: advance(keys, state, count, block), clock, say)


def _side_by_side(loss_fn: Callable, batch_fn: Callable, update: Callable) -> Callable:
    """`train_steps` for several keys and states at once."""

    @partial(jax.jit, static_argnames="block", donate_argnames="state")
    def advance(keys: Any, state: Any, count: jax.Array, block: int) -> Any:
        def one(key: Any, state: Any) -> Any:
            return train_steps(key, state, None, count, loss_fn=loss_fn, batch_fn=batch_fn, update=update, block=block)

        return jax.vmap(one)(keys, state)

    return advance


def lrt_checkpoints(config: LRTStages, seed: int, output: Output) -> dict[int, Any]:
    """Step -> parameters of one seed, of those that `train_lrt` has left so far."""
    stored = output.load_arrays("lrt")
    if stored is None or seed not in stored[0]["seeds"]:
        return {}
    header, arrays = stored
    place = header["seeds"].index(seed)
    subject = lrt_subject(config, seed)
    leaves, structure = jax.tree.flatten(jax.eval_shape(subject.init))
    return {
        step: jax.tree.unflatten(structure, [arrays[f"{step}/{i}"][place] for i in range(len(leaves))])
        for step in header["kept"]
    }


def train_language(
    size: LanguageSize, corpus: Path | None, output: Output, clock: Clock, say: Callable[[str], None]
) -> dict[str, Any]:
    """The language model as far as the minutes go; on `corpus`, a folder that `pack` made, or a synthetic language."""
    settings = language_models.paper()
    model = LanguageModel(size.vocab_size, size.context, size.embed_dim, size.num_heads)
    batches, data, evaluation = _language(size, corpus)
    optimizer, loss_fn = adamw(settings.training), next_token_loss(model)
    key = stream("language/training", settings.seed)
    state = init_train_state(init(stream("language/init", settings.seed), model), optimizer)

    def advance(state: Any, count: jax.Array, block: int) -> Any:
        return train_steps(
            key, state, data, count, loss_fn=loss_fn, batch_fn=batches, update=optimizer.update, block=block
        )

    header = {"corpus": "a synthetic language" if corpus is None else str(corpus), "setting": repr(size)}
    training = _Training(output, "lm", header, [size.num_steps], state)
    result = _train(training, advance, clock, say)
    if training.over:
        return result
    params = training.state.params
    probes = stream("language/probes", settings.seed)
    held_out = [float(jnp.mean(jax.jit(loss_fn)(params, {"tokens": part}))) for part in np.array_split(evaluation, 8)]
    tokens = result["steps"] * size.batch_size * size.context
    return {
        **result,
        "tokens": tokens,
        "loss on evaluation": float(np.mean(held_out)),
        "previous-token score": float(previous_token_scores(probes, model, params, num_sequences=256).max()),
        "prefix matching": float(prefix_matching_scores(probes, model, params, num_sequences=256).max()),
    }


def _language(size: LanguageSize, corpus: Path | None) -> tuple[Callable, Any, np.ndarray]:
    """Training batches, what they are drawn from (on the device), and sequences to evaluate on."""
    if corpus is None:
        language = TriggerBigrams(size.vocab_size, size.context, num_triggers=min(16, size.vocab_size // 2))
        table = language.table(stream("language/language"))
        tokens = language.sequences(stream("language/evaluation"), table, 32).tokens
        return trigger_batches(language, size.batch_size), table, np.asarray(tokens)
    packed = load_corpus(corpus)
    if packed.vocab_size != size.vocab_size:
        raise SystemExit(
            f"{corpus} has a vocabulary of {packed.vocab_size} tokens; pack it with {size.vocab_size}, as the paper's"
        )
    evaluation = windows(packed.tokens("held_out"), size.context, 32, bos=packed.bos)["tokens"]
    return TokenBatches(size.context, size.batch_size, packed.bos), jnp.asarray(packed.tokens("train")), evaluation


@dataclass
class _Training:
    """What a training has come to: its state, the parameters that are kept, and a curve of its loss.

    Attributes:
        output, group, header: where it is stored, and what it belongs to.
        targets: steps at which parameters are kept; the last is its end.
    """

    output: Output
    group: str
    header: dict[str, Any]
    targets: Sequence[int]
    state: Any
    kept: list[int] = field(default_factory=list)
    curve: list = field(default_factory=list)
    seconds: float = 0.0
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    over: bool = False

    def take_up(self) -> None:
        """Go on from what is stored, if it belongs to the same."""
        stored = self.output.load_arrays(self.group)
        if stored is None or any(stored[0][name] != value for name, value in self.header.items()):
            return
        header, arrays = stored
        self.kept, self.curve, self.seconds = header["kept"], header["curve"], header["seconds"]
        self.over = header["step"] >= max(self.targets)
        self.arrays = {name: array for name, array in arrays.items() if not name.startswith("state/")}
        if not self.over:
            self.state = _restored(self.state, arrays)

    def keep(self) -> None:
        """The parameters of now, at a target."""
        self.kept = [*self.kept, _step(self.state)]
        leaves = jax.tree.leaves(self.state.params)
        # Copies: the next step takes the state away.
        self.arrays |= {f"{_step(self.state)}/{i}": np.array(leaf) for i, leaf in enumerate(leaves)}

    def save(self, seconds: float) -> None:
        """Store it, with the state that a continuation needs; what is over needs none."""
        facts = {"kept": self.kept, "curve": self.curve, "seconds": self.seconds + seconds, "step": _step(self.state)}
        leaves = [] if _step(self.state) >= max(self.targets) else jax.tree.leaves(self.state)
        states = {f"state/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
        self.output.save_arrays(self.group, {**self.header, **facts}, self.arrays | states)


def _train(training: _Training, advance: Callable, clock: Clock, say: Callable[[str], None]) -> dict[str, Any]:
    """Train to the last target, or until the minutes are over."""
    training.take_up()
    last = max(training.targets)
    start, began = 0 if training.over else _step(training.state), time.monotonic()
    made = 0
    if not training.over:
        _advance_to(training, advance, clock, say)
        made = _step(training.state) - start
    seconds = time.monotonic() - began
    return {
        "steps": last if training.over else start + made, "of": last, "seconds": training.seconds + seconds,
        "steps per second": made / seconds, "checkpoints": training.kept, "curve": training.curve,
        "done": training.over or start + made >= last, **training.header,
    }  # fmt: skip


def _advance_to(training: _Training, advance: Callable, clock: Clock, say: Callable[[str], None]) -> None:
    began = saved = time.monotonic()
    chunk = 1
    for target in sorted(training.targets):
        while (step := _step(training.state)) < target and not clock.over():
            count, block = next_steps(step, target, chunk)
            asked = time.monotonic()
            training.state, loss = advance(training.state, jnp.asarray(count, jnp.int32), block=block)
            if not np.isfinite(loss).all():
                raise FloatingPointError(f"{training.group}: the training loss is {np.asarray(loss)} after step {step}")
            chunk = min(4 * chunk, 4096) if time.monotonic() - asked < 1.0 else chunk
            training.curve = _thinned([*training.curve, [step + count, *np.ravel(loss).round(5).tolist()]])
            if time.monotonic() - saved > SAVE_SECONDS:
                training.save(time.monotonic() - began)
                saved = time.monotonic()
                say(f"{training.group}: step {step + count:,} of {max(training.targets):,}")
        if _step(training.state) == target and target not in training.kept:
            training.keep()
    training.save(time.monotonic() - began)


def _step(state: Any) -> int:
    return int(np.ravel(state.step)[0])


def _restored(state: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`state` with what was stored of it."""
    leaves, structure = jax.tree.flatten(state)
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[f"state/{i}"]) for i in range(len(leaves))])


def _thinned(curve: list, most: int = 400) -> list:
    """Every other point, where there are too many."""
    return curve if len(curve) <= most else [*curve[:-1:2], curve[-1]]
