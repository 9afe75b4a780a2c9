"""What a new thing costs to write: lines and files of every experiment, and of a measure, a sampler, a model, an observable.

    python scripts/price_of_an_experiment.py                    against commit 7ce24a4, from before there was a bench
    python scripts/price_of_an_experiment.py --before HEAD~20

Lines are those that are not blank; in brackets those that are neither docstring nor comment. Files are counted whole, or the
definitions that are named. Nothing is typed in: what is not there any more is said.
"""

import argparse
import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
OWN = "examples/own_experiment.py"
EXPERIMENTS = (
    "transient_ridge", "lrt_stages", "lm_stages", "refined_llc", "deep_linear_networks", "known_models", "digits",
)  # fmt: skip
ASKS_FOR_A_NAME = r"kernel\.name [!=]=|setting\.kernel in \(|sampling\.sampler == "
CONTRACTS = ("tests/test_sampler.py", "tests/test_sampling.py")
"""The suites that every sampler passes."""


@dataclass(frozen=True)
class Tree:
    """The files of a commit, or of the working tree (`commit` is `None`)."""

    commit: str | None = None

    def files(self, *places: str) -> list[str]:
        """The Python files in or at `places`."""
        if self.commit is None:
            found = [path for place in places for path in ([ROOT / place] if place.endswith(".py") else (ROOT / place).rglob("*.py"))]  # fmt: skip
            return sorted(str(path.relative_to(ROOT)) for path in found if path.is_file())
        listed = _git("ls-tree", "-r", "--name-only", self.commit, "--", *places)
        return [name for name in listed.splitlines() if name.endswith(".py")]

    def read(self, path: str) -> str:
        return (ROOT / path).read_text() if self.commit is None else _git("show", f"{self.commit}:{path}")

    def matches(self, pattern: str, *places: str) -> list[str]:
        """Lines that match, as `file:line`."""
        return [
            f"{path}: `{line.strip()}`"
            for path in self.files(*places)
            for line in self.read(path).splitlines()
            if re.search(pattern, line)
        ]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def lines_of(text: str) -> tuple[int, int]:
    """Lines of a module that are not blank, and those of them with code."""
    code: set[int] = set()
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in nothing:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    full = [number for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return len(full), len(code.intersection(full))


def definitions(text: str, names: Sequence[str]) -> str:
    """The functions and classes called `names` at the top of a module, with their decorators."""
    rows, found = text.splitlines(), []
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names:
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            found += rows[first - 1 : node.end_lineno]
    return "\n".join(found) + "\n"


def price(tree: Tree, *places: str, names: Sequence[str] = ()) -> str:
    """Lines and files of whole files, or of some definitions in them."""
    files = tree.files(*places)
    if not files:
        return "-"
    texts = [tree.read(path) for path in files]
    counts = [lines_of(definitions(text, names) if names else text) for text in texts]
    full, code = (sum(count) for count in zip(*counts, strict=True))
    return f"{full} ({code}), {len(files)} file{'s' if len(files) > 1 else ''}"


def experiments(before: Tree, now: Tree) -> list[list[str]]:
    """Every experiment with its configs."""
    rows = []
    for name in EXPERIMENTS:
        places = (f"experiments/{name}", f"configs/{name}.py")
        rows.append([name.replace("_", "-"), price(before, *places), price(now, *places)])
    shared = ("slt_lab/comparison.py", "slt_lab/nuts.py")  # were counted with known-models
    rows.append(["shared by known-models and digits, in `slt_lab`", "-", price(now, *shared)])
    return [*rows, [f"one of your own (`{OWN}`)", "-", price(now, OWN)]]


def parts(before: Tree, now: Tree) -> list[list[str]]:
    """What an experiment is made of: the price of one, and the lines that make it known."""
    kernel, model = "slt_jax/sampling/underdamped.py", "experiments/digits/network.py"
    model_names, model_use = ("Perceptron", "_logits", "cross_entropy"), r"LocalPosterior\(cross_entropy"
    geometry = "slt_lab/measures/geometry.py" if now.files("slt_lab/measures/geometry.py") else "experiments/lrt_stages/geometry.py"  # fmt: skip
    return [
        ["the smallest measure (`Accuracy` of the example)", "-", price(now, OWN, names=("Accuracy",)), "-",
         _lines(now.matches(r"Accuracy\(\)", OWN))],
        ["a measure (geometry of lrt-stages)",
         price(before, "experiments/lrt_stages/geometry.py"), price(now, geometry),
         *(_lines(tree.matches(r"_geometry\b|Geometry\(", "experiments/lrt_stages/measure.py", "experiments/lrt_stages/subject.py", "experiments/lrt_stages/__init__.py"))
           for tree in (before, now))],
        ["a sampler (underdamped dynamics)", *(price(tree, kernel) for tree in (before, now)),
         *(_lines([*tree.matches(ASKS_FOR_A_NAME, "slt_jax", "experiments"), *tree.matches(r"\"underdamped\": ", *CONTRACTS)])
           for tree in (before, now))],
        ["a model (the digits network)", *(price(tree, model, names=model_names) for tree in (before, now)),
         *(_lines(tree.matches(model_use, "experiments/digits")) for tree in (before, now))],
        ["an observable (`w` itself)", *(_observable(tree)[0] for tree in (before, now)),
         *(_observable(tree)[1] for tree in (before, now))],
    ]  # fmt: skip


def _observable(tree: Tree) -> tuple[str, str]:
    """The price of the observable that the pilot chains record, and where it is made known."""
    lines = tree.matches(r"observables=\{\"w\": _ravel\}", "slt_jax", "experiments")
    return price(tree, lines[0].split(":")[0], names=("_ravel",)) if lines else "-", _lines(lines)


def _lines(found: Sequence[str]) -> str:
    if not found:
        return "-"
    if len(found) == 1:
        return found[0]
    files = sorted({line.split(":")[0] for line in found})
    return f"{len(found)} lines in {', '.join(files)}"


def _print(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="7ce24a4", help="the commit to compare with")
    before, now = Tree(parser.parse_args().before), Tree()
    _print(["experiment with its configs", f"at {before.commit}", "now"], experiments(before, now))
    print()
    _print(["a new thing", f"at {before.commit}", "now", f"made known at {before.commit} in", "now in"], parts(before, now))  # fmt: skip


if __name__ == "__main__":
    main()
