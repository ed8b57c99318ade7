"""Sending, side by side: Eventmill's batch uploader and other clients; see ``docs/performance.md``.

``python -m benchmarks.client`` runs in the product's environment. What is measured runs in
processes of its own, each contender's in its environment: ``caller`` and ``loss`` therefore
import nothing of the product, and ``contenders`` only the library that it is asked for.
"""
