"""Everything worth measuring on a GPU, in order of worth, in as many minutes as there are.

    python scripts/gpu_figures.py --dry-run                    the plan, with estimated minutes and what is done already
    python scripts/gpu_figures.py --minutes 9 --out figures    run it, or go on with it
    python scripts/gpu_figures.py --size tiny --minutes 5      a rehearsal on a CPU

A piece whose result is in the output folder is skipped; trainings go on from where they stopped. The folder holds at most eight
files of 16 MB, `figures.json` among them, which names the card, the versions and the precision of matrix products. Minutes are
estimates for a card of the H100's kind, except where a piece has run there.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "slt_jax" / "compiled"))

from gpu_output import Clock, Output

from configs.lrt_stages import Sampling

KEPT = (
    500, 1000, 1500, 2500, 5000, 7200, 10_000, 15_000, 20_000, 40_000, 60_000, 81_000, 101_000, 126_000, 160_000, 200_000,
    230_000, 253_000, 280_000, 320_000, 350_000, 375_000, 400_000, 450_000, 500_000,
)  # fmt: skip
"""Checkpoints of the regression transformer, where things happen: 25, of which five seeds fill two files."""


@dataclass(frozen=True)
class Size:
    """How large everything is; by default as the papers have it."""

    width: int = 64
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    num_steps: int = 500_000
    training_batch: int = 256
    kept: tuple[int, ...] = KEPT
    timed_steps: int = 96
    lrt_chains: tuple[int, ...] = (1, 10, 50, 250)
    lm_chains: tuple[int, ...] = (1, 4)
    early_steps: int = 10_000
    """Training before the LLC in three precisions."""
    early: Sampling = field(default_factory=lambda: Sampling(num_examples=2**17, num_draws=1000, num_burnin=500))
    many: Sampling = field(default_factory=lambda: Sampling(num_examples=2**17, num_draws=1000, num_burnin=1000))
    language: tuple[int, ...] = (5000, 1024, 256, 8, 100, 50_000)
    """Of `LanguageSize`: vocabulary, context, width, heads, batch, steps."""


TINY = Size(
    width=8, seeds=(1, 2), num_steps=48, training_batch=8, kept=(8, 40, 48), timed_steps=8, lrt_chains=(1, 2), lm_chains=(1,),
    early_steps=8, early=Sampling(num_examples=64, batch_size=8, num_chains=2, num_draws=8, num_burnin=4),
    many=Sampling(num_examples=64, batch_size=8, num_chains=2, num_draws=8, num_burnin=4),
    language=(32, 16, 16, 2, 4, 40),
)  # fmt: skip
SIZES = {"paper": Size(), "tiny": TINY}


class Piece(NamedTuple):
    """One line of the plan."""

    name: str
    minutes: float
    what: str
    run: Callable[["Run"], dict[str, Any]]
    resumable: bool = False
    """Whether it stops by itself when time is over; others begin only if there is time for all of it."""


class Run(NamedTuple):
    """What a piece is given."""

    size: Size
    output: Output
    scratch: Path
    corpus: Path | None
    clock: Clock


def _tests(run: Run) -> dict[str, Any]:
    from gpu_pieces import run_tests

    return run_tests()


def _throughput(run: Run) -> dict[str, Any]:
    from gpu_pieces import throughput, workloads
    from gpu_training import LanguageSize

    size, language = run.size, LanguageSize(*run.size.language)
    model = _language_model(language)
    work = workloads(_config(run, size.many), model, size.lrt_chains, size.lm_chains, language.batch_size)
    return throughput(work, size.timed_steps, run.clock, say)


def _precision(run: Run) -> dict[str, Any]:
    from gpu_pieces import precision

    return precision(_config(run, run.size.early), run.size.early_steps, say)


def _seeds(run: Run) -> dict[str, Any]:
    from gpu_training import train_lrt

    size = run.size
    return train_lrt(_config(run, size.many), size.seeds, size.kept, run.output, run.clock, say)


def _llcs(run: Run) -> dict[str, Any]:
    from gpu_pieces import many_llcs

    return many_llcs(_config(run, run.size.many), run.size.kept, run.output, run.scratch, run.clock, say)


def _language(run: Run) -> dict[str, Any]:
    from gpu_training import LanguageSize, train_language

    return train_language(LanguageSize(*run.size.language), run.corpus, run.output, run.clock, say)


PIECES = (
    Piece("tests", 1.0, "tests marked gpu", _tests),
    Piece(
        "throughput", 1.5, "chain-steps and tokens a second, beside the bare gradient and the card's peak", _throughput
    ),
    Piece("precision", 1.0, "LLC of one checkpoint in float32, TF32 and bfloat16", _precision),
    Piece("seeds", 6.0, "five regression transformers side by side to step 500,000, 25 checkpoints each", _seeds, True),
    Piece("llcs", 3.0, "LLC of 25 checkpoints x 10 chains in one program", _llcs, True),
    Piece(
        "language model", 20.0, "the language model at the paper's setting, as far as the minutes go", _language, True
    ),
)
BESIDE = 0.15
"""Minutes for writing and for ending in time."""


def _config(run: Run, sampling: Sampling) -> Any:
    from gpu_pieces import at_size

    return at_size(run.size.width, run.size.num_steps, run.size.training_batch, sampling)


def _language_model(language: Any) -> Any:
    from slt_jax.models.language_model import LanguageModel

    return LanguageModel(language.vocab_size, language.context, language.embed_dim, language.num_heads)


def say(line: str) -> None:
    print(line, flush=True)


def show_plan(output: Output) -> None:
    """Print every piece with its minutes and its state."""
    for piece in PIECES:
        say(f"{piece.name:16}{piece.minutes:5.1f} min  {_state(output.results.get(piece.name)):6}  {piece.what}")
    left = sum(piece.minutes for piece in PIECES if not output.done(piece.name))
    say(f"{'all that is left':16}{left:5.1f} min  (estimated; {output.folder}/figures.json says what is done)")


def work(run: Run) -> None:
    """Every piece that is not done, while there is time."""
    for piece in PIECES:
        if run.output.done(piece.name):
            say(f"{piece.name}: done already")
            continue
        if run.clock.left() < (BESIDE if piece.resumable else piece.minutes if run.size is not TINY else 0.0):
            say(f"{piece.name}: needs about {piece.minutes} minutes, {max(run.clock.left(), 0):.1f} are left")
            continue
        say(f"{piece.name}: {piece.what}")
        began = time.monotonic()
        if piece.name != PIECES[0].name:  # the tests have a process of their own, and want the card for themselves
            from slt_lab.precision import set_precision

            set_precision()
        result = _ran(piece, run)
        result = {**result, "minutes": (time.monotonic() - began) / 60}
        run.output.write(piece.name, {**result, **_machine(piece)})
        say(f"{piece.name}: {_state(result)} after {result['minutes']:.1f} minutes")


def _ran(piece: Piece, run: Run) -> dict[str, Any]:
    """What a piece gives; memory that does not suffice for one must not cost the others."""
    import jax

    try:
        return piece.run(run)
    except jax.errors.JaxRuntimeError as error:
        return {"failed": str(error)[:500], "done": False}


def _state(result: dict[str, Any] | None) -> str:
    if result is None:
        return "to do"
    return "done" if result["done"] else "failed" if "failed" in result else "begun"


def _machine(piece: Piece) -> dict[str, Any]:
    """Where a result comes from; not asked before the tests, which want the card for themselves."""
    if piece.name == PIECES[0].name:
        return {}
    from slt_lab.provenance import machine

    return {"machine": machine()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--scratch", type=Path, help="for what is too large to be taken away; default beside --out")
    parser.add_argument("--corpus", type=Path, help="a folder that `pack` made; default a synthetic language")
    parser.add_argument("--size", choices=SIZES, default="paper")
    arguments = parser.parse_args()
    if not arguments.minutes > 0:
        parser.error(f"--minutes {arguments.minutes}; it must be above 0")
    output = Output(arguments.out)
    if arguments.dry_run:
        show_plan(output)
        return
    scratch = arguments.scratch or arguments.out.with_name(arguments.out.name + "-scratch")
    work(Run(SIZES[arguments.size], output, scratch, arguments.corpus, Clock(arguments.minutes - BESIDE)))
    show_plan(output)


if __name__ == "__main__":
    main()
