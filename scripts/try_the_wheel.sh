#!/bin/sh
# Build the wheel and the source archive, and try the wheel alone in a clean environment: its imports, the five lines of the
# README, and that neither experiments nor configs came along. Prints what it checked.
#
#     sh scripts/try_the_wheel.sh [FOLDER]
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
root=$(pwd)

"$PYTHON" -m venv "$folder/builder"
"$folder/builder/bin/python" -m pip install --quiet --upgrade pip build
"$folder/builder/bin/python" -m build --outdir "$folder/dist" . > "$folder/build.log" 2>&1 || { cat "$folder/build.log"; exit 1; }
ls -l "$folder/dist"

for name in README.md LICENSE CHANGELOG.md CITATION.cff constraints.txt Makefile mkdocs.yml docs/index.md docs/design.md docs/hooks.py \
    examples/first_llc.py notebooks/quickstart.ipynb tests/conftest.py scripts/try_the_wheel.sh slt_jax/slt.mplstyle \
    slt_lab/templates/report.html.jinja experiments/catalogue.py configs/lrt_stages.py benchmarks/throughput.py; do
    [ "$name" = docs/index.md ] && continue # made from README.md
    tar -tzf "$folder"/dist/*.tar.gz | grep -q "/$name\$" || { echo "the source archive lacks $name"; exit 1; }
done
echo "the source archive has its files"

"$PYTHON" -m venv "$folder/clean"
"$folder/clean/bin/python" -m pip install --quiet --upgrade pip
"$folder/clean/bin/python" -m pip install --quiet -c constraints.txt "$folder"/dist/*.whl
cd "$folder"
clean/bin/python - "$root/README.md" << 'EOF'
import importlib.util
import pkgutil
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import slt_jax
import slt_lab

for package in (slt_jax, slt_lab):
    names = [module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    for name in names:
        if not name.endswith("__main__"):
            import_module(name)
    print(f"{package.__name__}: {len(names)} modules import")
assert version("slt-jax") == slt_jax.__version__, "two versions"
for name in ("experiments", "configs", "tests", "benchmarks"):
    assert importlib.util.find_spec(name) is None, f"{name} came along"
print(f"version {slt_jax.__version__}; no experiments, no configs, no tests")
exec(compile(Path(sys.argv[1]).read_text().split("```python\n")[1].split("```")[0], "README.md", "exec"))
EOF
echo "the wheel works alone"
