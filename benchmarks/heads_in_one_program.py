"""Susceptibilities of twelve heads in one program beside twelve runs: the same numbers, and the ratio of times.

    python benchmarks/heads_in_one_program.py

A language model of three layers and four heads on the synthetic language. Numbers: chain i of a run has the key of chain i
of any other run, so every head in turn is put first in the stack and compared with a run of that head alone. Times: with
and without compilation, one program and twelve runs in turn.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import slt_jax
from slt_jax.data.sequences import TRIGGER_CLASSES, TriggerBigrams
from slt_jax.models.language_model import LanguageModel, head_axes, init, next_token_loss
from slt_jax.posterior import LocalPosterior, by_slice, restrict
from slt_jax.sampling.driver import sample, sample_restrictions
from slt_jax.sampling.samples import Samples
from slt_lab.measures.susceptibilities import all_heads, loss_moments

MODEL = LanguageModel(vocab_size=32, context=64, embed_dim=64, num_heads=4, num_layers=3)
LANGUAGE = TriggerBigrams(vocab_size=32, context=64, num_triggers=16)
HEADS = [(layer, head) for layer in range(MODEL.num_layers) for head in range(MODEL.num_heads)]
KEY = jax.random.key(0)


def setting() -> tuple[LocalPosterior, dict[str, Any]]:
    """The posterior of all weights, and options of every run."""
    table = LANGUAGE.table(jax.random.key(1))
    data = {"tokens": LANGUAGE.sequences(jax.random.key(2), table, 1024).tokens}
    batch = LANGUAGE.sequences(jax.random.key(3), table, 32)
    params = jax.tree.map(lambda leaf: 2 * leaf, init(jax.random.key(4), MODEL))  # larger, so that heads matter
    moments = loss_moments(MODEL, batch.tokens, LANGUAGE.token_classes(batch), len(TRIGGER_CLASSES))
    posterior = LocalPosterior(next_token_loss(MODEL), data, params, 30.0, 200.0)
    return posterior, {"step_size": 1e-3, "thinning": 5, "statistics": {"losses": moments}, "inspection": False}


def together(posterior: LocalPosterior, first: int = 0, **options: Any) -> list[Samples]:
    """All heads in one program, head number `first` first."""
    stack = jax.tree.map(lambda leaf: jnp.roll(leaf, -first, axis=0), all_heads(MODEL))
    return sample_restrictions(KEY, posterior, stack, slt_jax.sgld(32), **options)


def alone(posterior: LocalPosterior, number: int, **options: Any) -> Samples:
    """One head in a run of its own."""
    layer, head = HEADS[number]
    return sample(KEY, restrict(posterior, by_slice(head_axes(layer), head)), slt_jax.sgld(32), **options)


def susceptibility(samples: Samples) -> np.ndarray:
    return slt_jax.influence(samples, "losses").value[: len(TRIGGER_CLASSES)]


def numbers(posterior: LocalPosterior, options: dict[str, Any]) -> None:
    """The largest difference between both ways, relative to the largest susceptibility of the head."""
    worst = 0.0
    for number, (layer, head) in enumerate(HEADS):
        one, many = (
            susceptibility(alone(posterior, number, num_chains=1, num_draws=16, **options)),
            susceptibility(together(posterior, number, num_chains=1, num_draws=16, **options)[0]),
        )
        difference = float(np.max(np.abs(one - many)) / np.max(np.abs(one)))
        worst = max(worst, difference)
        print(
            f"head {layer}:{head}  alone {one[0]:+.6e}  in the stack {many[0]:+.6e}  difference {difference:.1e}",
            flush=True,
        )
    print(f"largest relative difference of {len(HEADS)} heads x {len(TRIGGER_CLASSES)} classes: {worst:.1e}")


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def times(posterior: LocalPosterior, options: dict[str, Any], draws: int, repeats: int) -> None:
    """Seconds of both ways, the first time with compilation."""
    given = {"num_chains": 2, "num_draws": draws, **options}
    jax.clear_caches()
    ways = {
        "one program": lambda: together(posterior, **given),
        "twelve runs": lambda: [alone(posterior, number, **given) for number in range(len(HEADS))],
    }
    first = {name: timed(work) for name, work in ways.items()}
    again = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            again[name].append(timed(work))
    for told, seconds in (("with compilation", first), ("without", {name: np.median(s) for name, s in again.items()})):
        one, many = seconds.values()
        print(f"{told}: one program {one:.1f} s, twelve runs {many:.1f} s, ratio {many / one:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    posterior, options = setting()
    numbers(posterior, options)
    times(posterior, options, arguments.draws, arguments.repeats)


if __name__ == "__main__":
    main()
