"""Errors, time, settings, metrics, and the lifecycle of background threads: what every room stands on."""
