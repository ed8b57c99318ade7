"""Workflows beside Beam and hand-written DuckDB SQL, their repair, and an idle scheduler."""
