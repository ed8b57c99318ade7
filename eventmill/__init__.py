"""Eventmill."""
