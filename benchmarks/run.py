"""``python -m benchmarks.run [--quick]``: every pair of this project, printed and written."""

import argparse

from benchmarks import ingest, query, schema
from benchmarks.pairs import report

PARTS = {"schema": schema, "ingest": ingest, "query": query}


def main():
    """Run the benchmarks that were asked for."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute")
    parser.add_argument("--only", choices=tuple(PARTS))
    chosen = parser.parse_args()
    for name, module in PARTS.items():
        if chosen.only in (None, name):
            report(name, module.bench(chosen.quick))


if __name__ == "__main__":
    main()
