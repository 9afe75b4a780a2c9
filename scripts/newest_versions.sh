#!/bin/sh
# The tests under the newest Python and the newest versions of everything, in a folder that `debootstrap` makes of Debian's next
# release. Run by hand before a release, as root; arguments go to pytest.
#
#     sh scripts/newest_versions.sh FOLDER [PYTEST ARGUMENTS]
set -eu
cd "$(dirname "$0")/.."
folder=${1:?give a folder with 10 GB of room}
shift
release=${RELEASE:-trixie}
mirror=${MIRROR:-$(sed -n 's/^\(deb\|URIs:\)  *\(\[[^]]*\] \)\{0,1\}\([^ ]*\).*/\3/p' /etc/apt/sources.list /etc/apt/sources.list.d/* 2> /dev/null | head -1)}

if [ ! -x "$folder/usr/bin/python3" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates,make,git "$release" "$folder" "$mirror"
fi
cp /etc/resolv.conf "$folder/etc/resolv.conf"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$folder/etc/pip.conf"
mkdir -p "$folder/work"
git archive HEAD | tar -x -C "$folder/work"
# No constraints: whatever is newest.
chroot "$folder" sh -eu -c '
cd /work
python3 -m venv .venv
.venv/bin/python -m pip install --quiet --upgrade pip
.venv/bin/python -m pip install --quiet -e ".[dev,docs]"
.venv/bin/python --version
.venv/bin/python -m pip list | grep -iE "^(jax|jaxlib|flax|optax|blackjax|orbax-checkpoint|numpy|scipy|zarr|xarray|arviz-stats) "
exec .venv/bin/python -m pytest -q "$@"' sh "$@"
