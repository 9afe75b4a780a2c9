"""The house of DESIGN section 4: imports only go down, neighbours do not know each other, importing costs nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import slt_jax

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "slt_jax"

# Rows from top to bottom; a module imports only from its own or higher rows.
ROWS = [
    {"typing", "backend", "arguments", "trees", "inputs", "restrictions", "progress", "files", "identity"},
    {"linalg", "theory"},
    {"models", "data"},
    {"posterior"},
    {"training", "sampling"},
    {"estimators"},
    {"analysis"},
    {"plotting"},
]
ROW = {name: number for number, row in enumerate(ROWS) for name in row}
STRANGERS = ({"models", "data"}, {"models", "training"}, {"models", "sampling"}, {"data", "training"}, {"data", "sampling"}, {"training", "sampling"})  # fmt: skip
FILES = sorted(path for path in LIBRARY.rglob("*.py") if path != LIBRARY / "__init__.py")


def home(module: str) -> str:
    """The part of the house a dotted module belongs to: "slt_jax.sampling.sgld" lives in "sampling"."""
    return module.split(".")[1]


def imported_modules(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "slt_jax" else [node.module]
            )
            modules += names
        elif isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    return modules


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path):
    own = home(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imported_modules(path):
        assert module.split(".")[0] not in {"experiments", "configs", "tests", "benchmarks"}, f"{path} imports {module}"
        if module.startswith("slt_jax."):
            other = home(module)
            assert ROW[other] <= ROW[own], f"{path} imports {module}, which is below it"
            assert {own, other} not in STRANGERS, f"{path} imports {module}: they meet in LossFn only"


FLOORS = {
    "slt_jax": {"slt_jax"},
    "slt_lab": {"slt_jax", "slt_lab"},
    "configs": {"slt_jax", "slt_lab", "configs"},
    "experiments": {"slt_jax", "slt_lab", "configs", "experiments"},
}
"""Package -> packages of this repository that it may import."""
OURS = {*FLOORS, "tests", "benchmarks", "scripts", "examples", "notebooks"}
ALL_FILES = sorted(path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_floor_imports_only_floors_below(path):
    floor = path.relative_to(ROOT).parts[0]
    for module in imported_modules(path):
        package = module.split(".")[0]
        assert package not in OURS - FLOORS[floor], f"{path} imports {module}"


def test_no_exhibit_imports_an_exhibit():
    for folder in (path for path in (ROOT / "experiments").iterdir() if path.is_dir()):
        for path in folder.rglob("*.py"):
            for module in imported_modules(path):
                parts = module.split(".")
                assert parts[0] != "experiments" or parts[1:2] == [folder.name], f"{path} imports {module}"


def test_every_public_name_loads_and_is_documented():
    for name in slt_jax.__all__:
        value = getattr(slt_jax, name)
        if callable(value):
            assert value.__doc__, f"{name} has no docstring"
            assert not value.__doc__.startswith(f"{name}("), f"{name} has only the docstring a NamedTuple gives itself"
    with pytest.raises(AttributeError, match="no attribute 'rlct'"):
        slt_jax.rlct  # noqa: B018


@pytest.mark.parametrize(
    ("statement", "kept_out"),
    [
        ("import slt_jax", ("jax", "numpy", "flax", "matplotlib", "sklearn", "xarray")),
        ("from slt_jax import estimate_llc", ("flax", "matplotlib", "sklearn", "orbax", "xarray", "zarr", "rich")),
        ("import slt_lab", ("jax", "numpy", "tyro", "matplotlib", "rich", "xarray")),
        ("import experiments.__main__", ("jax", "numpy", "tyro", "matplotlib", "rich", "xarray")),
    ],
)
def test_imports_stay_light(statement, kept_out):
    """What makes an import slow is what it drags in; seconds themselves are measured by benchmarks/throughput.py."""
    script = f"import sys; {statement}; print([name for name in {kept_out!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
