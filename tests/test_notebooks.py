"""Notebooks run from top to bottom, and the snippets of README.md do what they say."""

from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.name)
# Jupyter's own libraries warn about their event loop; the notebook's kernel is another process.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_notebook_runs(path):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()


def test_the_readmes_five_lines_give_the_exact_value_within_their_error(capsys):
    block = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out.splitlines()[-1] == "21/2"
    estimate = names["estimate"]
    assert estimate.status == "ok"
    assert abs(estimate.mean - 10.5) < 3 * estimate.std_error
    assert estimate.std_error < 0.5
