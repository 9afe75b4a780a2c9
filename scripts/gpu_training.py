"""Trainings of `gpu_figures.py`: five regression transformers side by side, and the language model at the paper's setting.

Both go on from what an earlier run left, to the same bits, and stop when the minutes are over.
"""

import time
from collections.abc import Callable, Sequence
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
    return _train(
        "lrt", lambda state, count, block: advance(keys, state, count, block), state, keep, output, clock, say,
        seeds=list(seeds), setting=repr((config.model, config.training)),
    )  # fmt: skip


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

    named = "a synthetic language" if corpus is None else str(corpus)
    result = _train("lm", advance, state, [size.num_steps], output, clock, say, corpus=named, setting=repr(size))
    stored = output.load_arrays("lm")
    if stored is None:
        return result
    params = _restored(state, stored[1]).params
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


def _train(
    group: str,
    advance: Callable,
    state: Any,
    targets: Sequence[int],
    output: Output,
    clock: Clock,
    say: Callable[[str], None],
    **header: Any,
) -> dict[str, Any]:
    """Train to the last of `targets`, or until the minutes are over, and keep parameters at each of them.

    What is stored is taken up if all of `header` is the same; the optimizer's state goes when training is over.
    """
    stored, kept, curve, spent = output.load_arrays(group), [], [], 0.0
    arrays: dict[str, np.ndarray] = {}
    if stored is not None and all(stored[0][name] == value for name, value in header.items()):
        kept, curve, spent = (stored[0][name] for name in ("kept", "curve", "seconds"))
        arrays = {name: array for name, array in stored[1].items() if not name.startswith("state/")}
        state = _restored(state, stored[1])
    began, last = time.monotonic(), max(targets)

    def save() -> None:
        seconds = spent + time.monotonic() - began
        done = _step(state) >= last
        rest = jax.tree.leaves(state.params if done else state)
        states = (
            {f"state/{i}": np.asarray(leaf) for i, leaf in enumerate(rest)} if not done or len(targets) == 1 else {}
        )
        output.save_arrays(
            group, {**header, "kept": kept, "curve": curve, "seconds": seconds, "step": _step(state)}, arrays | states
        )

    start, saved, chunk = _step(state), time.monotonic(), 1
    for target in sorted(targets):
        while (step := _step(state)) < target and not clock.over():
            count, block = next_steps(step, target, chunk)
            asked = time.monotonic()
            state, loss = advance(state, jnp.asarray(count, jnp.int32), block=block)
            if not np.isfinite(loss).all():
                raise FloatingPointError(f"{group}: the training loss is {np.asarray(loss)} before step {_step(state)}")
            chunk = min(4 * chunk, 4096) if time.monotonic() - asked < 1.0 else chunk
            curve = _thinned([*curve, [_step(state), *np.ravel(loss).round(5).tolist()]])
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
                say(f"{group}: step {_step(state):,} of {last:,}")
        if _step(state) == target and target not in kept and len(targets) > 1:
            kept = [*kept, target]
            arrays |= {f"{target}/{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state.params))}
    save()
    made, seconds = _step(state) - start, time.monotonic() - began
    return {
        "steps": _step(state), "of": last, "seconds": spent + seconds, "steps per second": made / seconds,
        "checkpoints": kept, "curve": curve, "done": _step(state) >= last, **header,
    }  # fmt: skip


def _step(state: Any) -> int:
    return int(np.ravel(state.step)[0])


def _restored(state: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`state`, or its parameters alone where training is over, with what was stored of it."""
    stored = [arrays[f"state/{i}"] for i in range(sum(name.startswith("state/") for name in arrays))]
    for part, put in ((state, lambda whole: whole), (state.params, lambda params: state._replace(params=params))):
        leaves, structure = jax.tree.flatten(part)
        if len(leaves) == len(stored):
            return put(jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in stored]))
    return state


def _thinned(curve: list, most: int = 400) -> list:
    """Every other point, where there are too many."""
    return curve if len(curve) <= most else [*curve[:-1:2], curve[-1]]
