"""GoogleSQL on DuckDB: a written subset, each part with a tested meaning; the rest is refused."""

from eventmill.store.googlesql.bounds import TimeBounds
from eventmill.store.googlesql.tables import view_name
from eventmill.store.googlesql.translation import Translation, parameter_names, translate

__all__ = ["TimeBounds", "Translation", "parameter_names", "translate", "view_name"]
