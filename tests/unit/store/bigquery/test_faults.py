"""Google's errors, on the right side of the fork: will time mend it?"""

import pytest
import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from eventmill.base.errors import (
    AccessError,
    BackPressureError,
    BatchTooLargeError,
    PermanentError,
    TransientError,
    UnavailableError,
)
from eventmill.store.bigquery.faults import google_errors, translated


def with_reason(error, reason):
    return error("told", errors=[{"reason": reason, "message": "told"}])


CASES = [
    (api.ServiceUnavailable("x"), UnavailableError),
    (api.InternalServerError("x"), UnavailableError),
    (api.BadGateway("x"), UnavailableError),
    (api.GatewayTimeout("x"), UnavailableError),
    (api.DeadlineExceeded("x"), UnavailableError),
    (api.Aborted("x"), UnavailableError),
    (api.Cancelled("x"), UnavailableError),
    (api.RetryError("x", None), UnavailableError),
    (requests.ConnectionError("x"), UnavailableError),
    (requests.Timeout("x"), UnavailableError),
    (auth.TransportError("x"), UnavailableError),
    (auth.RefreshError("x", retryable=True), UnavailableError),
    (auth.RefreshError("x"), AccessError),
    (auth.DefaultCredentialsError("x"), AccessError),
    (api.Unauthorized("x"), AccessError),
    (api.Unauthenticated("x"), AccessError),
    (api.Forbidden("x"), AccessError),
    (api.PermissionDenied("x"), AccessError),
    (with_reason(api.Forbidden, "accessDenied"), AccessError),
    (with_reason(api.Forbidden, "quotaExceeded"), BackPressureError),
    (with_reason(api.Forbidden, "rateLimitExceeded"), BackPressureError),
    (with_reason(api.Forbidden, "responseTooLarge"), AccessError),
    (api.TooManyRequests("x"), BackPressureError),
    (api.ResourceExhausted("x"), BackPressureError),
    (api.RequestRangeNotSatisfiable("x"), PermanentError),
    (api.from_http_status(413, "x"), BatchTooLargeError),
    (api.BadRequest("x"), PermanentError),
    (api.InvalidArgument("x"), PermanentError),
    (api.NotFound("x"), PermanentError),
    (api.MethodNotImplemented("x"), PermanentError),
]


@pytest.mark.parametrize(("error", "expected"), CASES, ids=lambda case: repr(case)[:60])
def test_each_error_is_on_its_side(error, expected):
    found = translated(error, "writing to t")
    assert isinstance(found, expected)
    assert isinstance(found, TransientError) == issubclass(expected, TransientError)
    assert str(found).startswith("writing to t: ")


def test_a_quota_says_how_long_to_wait_and_a_permission_which_role():
    assert translated(api.TooManyRequests("x"), "w").retry_after_seconds > 0
    assert "roles/bigquery.dataEditor" in str(translated(api.Forbidden("x"), "w"))


def test_other_errors_pass():
    with pytest.raises(KeyError), google_errors("x"):
        raise KeyError("x")
