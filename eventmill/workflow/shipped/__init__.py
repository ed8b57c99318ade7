"""Workflows that come with Eventmill: folders to run as they are, or to begin with."""
