#!/bin/sh
# Makes the virtual environment $1 with Apache Beam, the product, and what tests of both need. Apart
# from the product's own: Beam wants protobuf below 7, and so this is where the sending library is
# tested with protobuf 6 as well.
set -eu
venv=$1
python=${PYTHON:-python3}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip="$venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install --upgrade "pip>=25.1"
$pip install --editable ".[server,beam-gcp]" --group beam
