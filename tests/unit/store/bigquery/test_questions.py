"""What a query may cost, and what of BigQuery's answers is whose fault."""

import pytest
from google.api_core import exceptions as api

from eventmill.base.errors import QueryCancelledError, QueryError
from eventmill.store.bigquery.questions import Questions

SQL = "SELECT COUNT(*) AS n FROM `p.d.t`"


class Job:
    def __init__(self, scanned, error=None):
        self.total_bytes_processed, self.error, self.is_cancelled = scanned, error, False

    def result(self, max_results, timeout):
        raise self.error

    def cancel(self):
        self.is_cancelled = True


class Client:
    """Estimates ``scanned`` bytes; keeps how each query was asked."""

    def __init__(self, scanned, error=None):
        self.job, self.asked = Job(scanned, error), []

    def query(self, sql, job_config):
        self.asked.append(job_config)
        if isinstance(self.job.error, api.BadRequest) and not job_config.dry_run:
            raise self.job.error
        return self.job


def ask(client, **more):
    options = {"row_limit": 10, "timeout_seconds": 5.0, "dry_run": False, **more}
    return Questions(client, "p", 1_000_000).ask(SQL, None, **options)


def test_a_query_over_the_bound_is_refused_before_it_is_run():
    client = Client(1_000_001)
    with pytest.raises(QueryError, match="billed_bytes_max"):
        ask(client)
    assert [each.dry_run for each in client.asked] == [True]


def test_a_dry_run_says_what_would_be_scanned():
    assert ask(Client(123), dry_run=True).stats.bytes_scanned == 123


def test_bigquery_is_told_the_bound_as_well_and_how_long_it_may_take():
    client = Client(10, TimeoutError())
    with pytest.raises(QueryCancelledError, match="after 5 s"):
        ask(client)
    asked = client.asked[-1]
    assert (asked.maximum_bytes_billed, asked.job_timeout_ms) == (1_000_000, "5000") or (
        int(asked.job_timeout_ms) == 5000
    )
    assert client.job.is_cancelled


def test_a_refusal_of_the_query_is_the_querys_fault():
    with pytest.raises(QueryError, match="no such thing"):
        ask(Client(10, api.BadRequest("no such thing")))
