#!/bin/sh
# The libraries that benchmarks/throughput.py is measured against, each in its own environment under .peers/.
# PyTorch comes from whatever index pip is set up with; PEERS_PIP_ARGS passes options on, to choose a CPU-only build say.
set -eu
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-python3}

# A Python of at least the given minor version that runs, or nothing: canonical-interp needs itertools.batched (3.12).
find_python() {
    for candidate in "$PYTHON" python3.12 python3.13 "$HOME"/.pyenv/versions/3.12*/bin/python \
        "$HOME"/.pyenv/versions/3.13*/bin/python; do
        if "$candidate" -c "import sys; sys.exit(sys.version_info < (3, $1))" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

install() { # folder, interpreter, package
    if [ -e ".peers/$1/.installed" ]; then
        echo "$3 is installed in .peers/$1"
        return
    fi
    echo "installing $3 in .peers/$1 (PyTorch is large: minutes, some gigabytes)"
    "$2" -m venv ".peers/$1"
    # shellcheck disable=SC2086
    ".peers/$1/bin/python" -m pip install --quiet ${PEERS_PIP_ARGS:-} "$3"
    touch ".peers/$1/.installed"
}

install devinterp "$PYTHON" devinterp==1.3.2
newer=$(find_python 12)
if [ -n "$newer" ]; then
    install canonical "$newer" canonical-interp==0.1.5
else
    echo "no Python 3.12 or later on this machine: canonical-interp 0.1.5 is left out"
fi
