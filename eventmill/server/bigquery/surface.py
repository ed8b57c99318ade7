"""The surface as a whole: its rooms, its addresses, its upkeep."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from typing import Self

from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import EventmillError
from eventmill.base.metrics import Metrics
from eventmill.base.settings import ServerSettings
from eventmill.server.access import Access
from eventmill.server.access.gate import Refuse
from eventmill.server.bigquery.calls import Address, Answer, Call, Endpoint, no_such_address
from eventmill.server.bigquery.catalog import Catalog
from eventmill.server.bigquery.datasets import RESULTS_DATASET, Datasets
from eventmill.server.bigquery.destinations import Destinations
from eventmill.server.bigquery.errors import answer, api_error_of
from eventmill.server.bigquery.guard import Guard
from eventmill.server.bigquery.iam import VERBS, Iam
from eventmill.server.bigquery.insert_all import InsertAll
from eventmill.server.bigquery.job_book import JobBook
from eventmill.server.bigquery.job_runner import JobRunner
from eventmill.server.bigquery.jobs import Jobs
from eventmill.server.bigquery.load_work import LoadWork
from eventmill.server.bigquery.projects import Projects
from eventmill.server.bigquery.query_calls import QueryCalls
from eventmill.server.bigquery.query_work import QueryWork
from eventmill.server.bigquery.results import Results
from eventmill.server.bigquery.rooms import Rooms
from eventmill.server.bigquery.row_writer import RowWriter
from eventmill.server.bigquery.slot_work import SlotWork
from eventmill.server.bigquery.table_data import TableData
from eventmill.server.bigquery.tables import Tables
from eventmill.server.bigquery.upkeep import SurfaceUpkeep
from eventmill.server.bigquery.upload_calls import UploadCalls
from eventmill.server.bigquery.uploads import Uploads
from eventmill.server.bigquery.view_catalog import Views
from eventmill.server.bigquery.views import ViewCalls
from eventmill.server.body import BodyBudget
from eventmill.server.putting import StorePutter
from eventmill.store.port import Store

DATABASE_FILE = "surface.db"
"""Name, in the data folder, of what the surface knows beyond the store."""
WORK_FOLDER = "surface"
"""Name, in the data folder, of the folder for answers and uploaded files."""
PREFIXES = ("/bigquery/v2", "")
"""Both are in use: clients whose endpoint is a full address send the path without the first."""
_UPLOAD_PREFIXES = ("/upload/bigquery/v2", "/resumable/upload/bigquery/v2", "/upload")


class Surface:
    """BigQuery's REST API over one store. Its routes may be served as soon as it exists."""

    def __init__(
        self,
        store: Store,
        access: Access,
        putter: StorePutter,
        settings: ServerSettings,
        budget: BodyBudget,
        metrics: Metrics,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Open ``surface.db`` beside the store; for a store without a folder, in memory.

        Args:
            store: stays the caller's.
            access: who may do what; stays the caller's.
            putter: puts streamed rows into the store.
            settings: limits.
            budget: of request bodies.
            metrics: registry to count in.
            clock: time, given so that tests can set it.
        """
        folder, database, owned = _places(store)
        self._catalog = Catalog(database)
        self._book = JobBook(database)
        self._views = Views(database)
        self._end = weakref.finalize(self, _end, (self._catalog, self._views, self._book), owned)
        rooms = Rooms(store, self._catalog, self._views, Guard(access), clock)
        self._results = Results(os.path.join(folder, "results"))
        uploads = Uploads(os.path.join(folder, "uploads"), clock)
        datasets = Datasets(rooms)
        self._view_calls = ViewCalls(rooms, datasets)
        tables = Tables(rooms, datasets)
        destinations = self.destinations = Destinations(rooms, datasets, tables)
        writer = RowWriter(rooms, os.path.join(folder, "rows"))
        work = QueryWork(rooms, self._results, destinations, writer, settings.query_seconds_max)
        works = {
            "query": SlotWork(rooms, self._results, work.query).run,
            "copy": work.copy,
            "load": LoadWork(destinations, writer, uploads).load,
        }
        self.runner = JobRunner(rooms, self._book, works, settings.queries_running_max)
        self.upkeep = SurfaceUpkeep(rooms, self._book, self._results, uploads)
        jobs = Jobs(rooms, self._book, self.runner, work, destinations, self._results)
        self._budget, self._guard = budget, rooms.guard
        self._data = (datasets, tables, TableData(rooms), Iam(rooms, datasets))
        self._projects = Projects(rooms)
        self._insert_all = InsertAll(rooms, putter, metrics)
        self._jobs = (jobs, QueryCalls(jobs, self._results), UploadCalls(jobs, uploads, budget))

    def start(self) -> None:
        """Begin again the jobs that the server's end has cut short, and the upkeep."""
        self.runner.resume()
        self.upkeep.start()

    def close(self) -> None:
        """Stop jobs and upkeep, and let go of the files; a second call does nothing."""
        self.upkeep.stop()
        self.runner.close()
        self._end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def routes(self) -> list[Route]:
        """Every address of the surface, for the router of an application."""
        found = []
        for prefix in PREFIXES:
            found += [self._route(prefix + path, **ends) for path, ends in self._addresses()]
        uploads = self._jobs[2]
        for prefix in _UPLOAD_PREFIXES:
            path = f"{prefix}/projects/{{project}}/jobs"
            found.append(
                self._route(path, POST=uploads.post, PUT=uploads.put, DELETE=uploads.cancel)
            )
        nothing = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), no_such_address)
        found += [
            self._route(f"{prefix}{{rest:path}}", **nothing)
            for prefix in (f"{PREFIXES[0]}/", "/projects/", "/upload/")
        ]
        return found

    def _route(self, path: str, **endpoints: Endpoint) -> Route:
        return Route(path, Address(endpoints, self._guard, self._budget))

    def _addresses(self) -> Iterator[tuple[str, dict[str, Endpoint]]]:
        datasets, tables, data, iam = self._data
        jobs, queries, _ = self._jobs
        views = self._view_calls
        project = "/projects/{project}"
        dataset = f"{project}/datasets/{{dataset}}"
        table = f"{dataset}/tables/{{table}}"
        for verb in VERBS:
            yield f"{table}:{verb}", {"POST": iam.of_table(verb)}
            yield f"{dataset}:{verb}", {"POST": iam.of_dataset(verb)}
        yield "/projects", {"GET": self._projects.list_projects}
        yield f"{project}/datasets", {"GET": datasets.list_datasets, "POST": datasets.insert}
        yield (
            dataset,
            {
                "GET": datasets.get,
                "PATCH": datasets.patch,
                "PUT": datasets.update,
                "DELETE": datasets.delete,
            },
        )
        yield (
            f"{dataset}/tables",
            {"GET": tables.list_tables, "POST": views.inserting(tables.insert)},
        )
        yield (
            table,
            {
                "GET": _of_answers(queries.table, views.or_table(views.get, tables.get)),
                "PATCH": views.or_table(views.change, tables.patch),
                "PUT": views.or_table(views.change, tables.update),
                "DELETE": views.or_table(views.delete, tables.delete),
            },
        )
        yield f"{table}/insertAll", {"POST": self._insert_all.insert_all}
        yield (
            f"{table}/data",
            {"GET": _of_answers(queries.rows, views.or_table(views.no_rows, data.list_rows))},
        )
        yield f"{project}/jobs", {"GET": jobs.list_jobs, "POST": jobs.insert}
        yield f"{project}/jobs/{{job}}", {"GET": jobs.get}
        yield f"{project}/jobs/{{job}}/cancel", {"POST": jobs.cancel}
        yield f"{project}/jobs/{{job}}/delete", {"DELETE": jobs.delete}
        yield f"{project}/queries", {"POST": queries.query}
        yield f"{project}/queries/{{job}}", {"GET": queries.results}


def _of_answers(
    answers: Callable[[Call], Answer], tables: Callable[[Call], Answer]
) -> Callable[[Call], Answer]:
    """Return the endpoint for tables of which some are answers of queries."""

    def endpoint(call: Call) -> Answer:
        return (answers if call.path["dataset"] == RESULTS_DATASET else tables)(call)

    return endpoint


def refusing(otherwise: Refuse) -> Refuse:
    """Return what answers a request without valid credentials, in the form that its path promises.

    Args:
        otherwise: answers at addresses that are not of this surface.
    """

    def refuse(scope: Scope, error: EventmillError) -> Response:
        path = scope["path"]
        if path.startswith((f"{PREFIXES[0]}/", "/projects", "/upload/", "/resumable/")):
            return answer(api_error_of(error))
        return otherwise(scope, error)

    return refuse


def _places(store: Store) -> tuple[str, str, str]:
    """Return the work folder, the path of the database, and the folder to remove at the end."""
    path = getattr(store, "path", None)
    if isinstance(path, str):
        return os.path.join(path, WORK_FOLDER), os.path.join(path, DATABASE_FILE), ""
    folder = tempfile.mkdtemp(prefix="eventmill-surface-")
    return folder, os.path.join(folder, DATABASE_FILE), folder


def _end(databases: tuple[Catalog, Views, JobBook], owned: str) -> None:
    for database in databases:
        database.close()
    if owned:
        shutil.rmtree(owned, ignore_errors=True)
