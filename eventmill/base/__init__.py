"""Errors, time, settings, metrics, background threads: what every room stands on.

Imports nothing of the project.
"""
