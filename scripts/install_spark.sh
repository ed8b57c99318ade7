#!/bin/sh
# Adds Spark to the virtual environment $1, and a Java where the machine has none: one test, of
# whether Spark reads the lake's Parquet, wants them. Nothing else of the project does.
set -eu
venv=$1
"$venv/bin/python" -m pip --quiet --disable-pip-version-check install --group spark
if java -version > /dev/null 2>&1 || [ -x "${JAVA_HOME:-}/bin/java" ]; then
    exit 0
fi
if command -v apt-get > /dev/null && [ "$(id -u)" = 0 ]; then
    apt-get -qq update && apt-get -qq install --yes --no-install-recommends default-jre-headless
else
    # Said here; the test that misses it fails.
    echo "Spark needs Java 17 or newer: install one, such as by \`brew install openjdk\`" \
        "or \`apt-get install default-jre-headless\`, and set JAVA_HOME." >&2
fi
