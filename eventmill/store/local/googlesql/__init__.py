"""GoogleSQL on DuckDB: a written subset, each part with a tested meaning; the rest is refused."""

from eventmill.store.local.googlesql.bounds import TimeBounds
from eventmill.store.local.googlesql.tables import view_name
from eventmill.store.local.googlesql.translation import Translation, translate

__all__ = ["TimeBounds", "Translation", "translate", "view_name"]
