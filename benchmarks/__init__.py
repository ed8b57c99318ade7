"""Ratios against the limits of the machine; `python -m benchmarks.run`."""
