"""Many checkpoints in one program beside one after another: the same numbers, one compilation, and the ratio of times.

    python benchmarks/many_checkpoints.py                      200 checkpoints x 4 chains of the demo's model
    python benchmarks/many_checkpoints.py --checkpoints 5 --chains 2 --draws 3 --width 8

The transformer of `lrt-stages --config demo` after 0, 5, 10, ... steps of training, SGLD in the posterior of that config. The two
ways are timed in turn, the first time with compilation. `inspect`, which looks at every checkpoint on the host in the same way
for both, is left out.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import slt_jax
from configs.lrt_stages import LRTStages, Model, demo
from experiments.lrt_stages.subject import model_of
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling import driver
from slt_jax.sampling.samples import Samples
from slt_jax.training.loop import init_train_state, train_steps
from slt_lab.subjects.regression_transformer import RegressionSubject, regression_subject

KEY = jax.random.key(0)
STEPS_BETWEEN = 5


def subject_of(config: LRTStages) -> RegressionSubject:
    """The demo's training."""
    training = config.training
    return regression_subject(
        1, model_of(config), num_steps=training.num_steps, schedule_steps=training.schedule_steps,
        peak_learning_rate=training.peak_learning_rate, batch_size=training.batch_size,
    )  # fmt: skip


def trained(subject: RegressionSubject, count: int) -> list[Any]:
    """Parameters after 0, 5, 10, ... steps."""
    assert subject.training_key is not None
    assert subject.optimizer is not None
    assert subject.batches is not None
    state = init_train_state(subject.init(), subject.optimizer)
    found = []
    for _ in range(count):
        found.append(jax.tree.map(np.array, state.params))  # copies: the next step takes the state away
        state, _ = train_steps(
            subject.training_key, state, None, jnp.int32(STEPS_BETWEEN), loss_fn=subject.loss_fn, batch_fn=subject.batches,
            update=subject.optimizer.update,
        )  # fmt: skip
    return found


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def largest_difference(one: list[Samples], other: list[Samples]) -> float:
    """Of all recorded losses, relative to the largest."""
    pairs = [(a.loss, b.loss) for a, b in zip(one, other, strict=True)]
    return max(float(np.abs(a - b).max()) for a, b in pairs) / max(float(np.abs(a).max()) for a, _ in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=200)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--width", type=int, default=64, help="of the transformer")
    parser.add_argument("--layout", choices=["vmap", "map"], help="default by backend")
    parser.add_argument("--at-once", type=int, help="checkpoints in a program; default as many as fit")
    arguments = parser.parse_args()
    config = LRTStages(model=Model(width=arguments.width, hidden=arguments.width), training=demo().training)
    sampling, subject = demo().sampling, subject_of(config)
    checkpoints = trained(subject, arguments.checkpoints)
    centers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *checkpoints)
    data, kernel = subject.posterior_data(sampling.num_examples), slt_jax.sgld(sampling.batch_size)
    options: dict[str, Any] = {
        "step_size": 3e-4, "num_chains": arguments.chains, "num_draws": arguments.draws, "inspection": False,
        "layout": arguments.layout,
    }  # fmt: skip

    def posterior(params: Any) -> LocalPosterior:
        return LocalPosterior(subject.loss_fn, data, params, sampling.nbeta, sampling.localization)

    def together() -> list[Samples]:
        first = posterior(checkpoints[0])
        return slt_jax.sample_checkpoints(KEY, first, centers, kernel, at_once=arguments.at_once, **options)

    def in_turn() -> list[Samples]:
        return [slt_jax.sample(KEY, posterior(params), kernel, **options) for params in checkpoints]

    before = driver._advance._cache_size()
    first_together, one = timed(together)
    compiled = driver._advance._cache_size() - before
    first_in_turn, other = timed(in_turn)
    rounds = [(timed(together)[0], timed(in_turn)[0]) for _ in range(2)]
    one_program, one_by_one = np.median(rounds, axis=0)
    print(
        f"{arguments.checkpoints} checkpoints x {arguments.chains} chains x {arguments.draws} draws, {jax.devices()[0].device_kind}"
    )
    print(f"largest difference of a loss, relative to the largest loss: {largest_difference(one, other):.1e}")
    print(f"programs compiled for the chains of all checkpoints: {compiled}")
    for told, many, single in (("first time", first_together, first_in_turn), ("again", one_program, one_by_one)):
        print(f"{told}: one program {many:.2f} s, one after another {single:.2f} s, ratio {single / many:.2f}")


if __name__ == "__main__":
    main()
