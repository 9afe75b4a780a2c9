"""Pages for people: the code on them runs and prints what they say, tables are narrow, links lead somewhere."""

import ast
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import pytest

import slt_jax

ROOT = Path(__file__).parent.parent
WIDEST = 120
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
RUN = ["start", "theory", "design", "beside-others"]


def blocks(page):
    return PYTHON.findall((ROOT / "docs" / f"{page}.md").read_text())


def execute(code, names, name):
    """Run `code`; what is printed on a line with the comment `# → TEXT` begins with TEXT."""
    lines = code.splitlines()
    for node in ast.parse(code).body:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(ast.Module([node], []), name, "exec"), names)
        _, found, expected = lines[node.end_lineno - 1].partition("# → ")
        if found:
            assert out.getvalue().startswith(expected), f"{name}: {lines[node.end_lineno - 1]} printed {out.getvalue()}"


def run_page(page):
    names = {}
    with jax.numpy_rank_promotion("allow"):  # as a user has it
        for code in blocks(page):
            execute(code, names, f"docs/{page}.md")
    plt.close("all")
    return names


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_are_narrow(path):
    wide = [
        number for number, line in enumerate(path.read_text().splitlines(), 1) if line[:1] == "|" and len(line) > WIDEST
    ]
    assert not wide, f"{path.name}: table lines {wide} are wider than {WIDEST} characters"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(path):
    generated = {ROOT / "docs" / "guides" / f"{file.stem}.ipynb" for file in (ROOT / "notebooks").glob("*.ipynb")}
    generated.add(ROOT / "docs" / "reference" / "index.md")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            file = (path.parent / target).resolve()
            assert file.exists() or file in generated, f"{path.name} links to {target}, which is not there"


def test_code_of_the_start_gives_the_exact_value():
    estimate = run_page("start")["estimate"]
    assert estimate.status == "ok"
    assert abs(estimate.mean - 10.5) < 3 * estimate.std_error


def test_code_of_the_theory_page_prints_what_it_says():
    run_page("theory")


def test_pytorch_weights_come_over():
    names = run_page("beside-others")
    state = {
        "0.weight": jnp.array([[1.0, 0.0]]),
        "0.bias": jnp.zeros(1),
        "2.weight": jnp.ones((1, 1)),
        "2.bias": jnp.ones(1),
    }
    batch = {"x": jnp.array([[0.5, 9.0], [0.0, 9.0]]), "y": jnp.array([0.0, 1.0])}
    with jax.numpy_rank_promotion("allow"):
        losses = names["loss_fn"](names["to_params"](state), batch)
    assert jnp.allclose(losses, jnp.array([(jnp.tanh(0.5) + 1) ** 2, 0.0]))


@pytest.fixture(scope="module")
def design():
    return run_page("design")


def test_the_skeleton_of_a_model(design):
    assert abs(design["estimate"].mean - 2) < 3 * design["estimate"].std_error


def test_the_skeleton_of_a_sampler(design):
    """Tuned, it gives the exact value of a quadratic."""
    assert isinstance(design["sampler"].kernel, slt_jax.Kernel)
    curvatures, nbeta, localization = jnp.array([4.0, 1.0]), 25.0, 5.0
    exact = float(0.5 * jnp.sum(nbeta * curvatures / (nbeta * curvatures + localization)))

    def loss_fn(w, batch):
        return jnp.broadcast_to(0.5 * jnp.sum(curvatures * w**2), batch.shape)

    posterior = slt_jax.LocalPosterior(loss_fn, jnp.zeros(2), jnp.zeros(2), nbeta, localization)
    tuned = design["sampler"].tune(jax.random.key(0), posterior)
    samples = slt_jax.sample(
        jax.random.key(1), posterior, tuned, num_chains=8, num_draws=500, thinning=tuned.num_burnin // 10
    )
    estimate = slt_jax.llc(samples)
    assert estimate.status == "ok"
    assert abs(estimate.mean - exact) < 3 * estimate.std_error < 0.2


def test_the_skeletons_of_a_measure_and_an_experiment(tmp_path):
    *_, measure, experiment = blocks("design")
    (tmp_path / "line.py").write_text(measure + experiment)
    command = [sys.executable, "-m", "slt_lab", "line.py", "--config", "demo", "--folder", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<td>100</td><td>2.00</td>" in page
