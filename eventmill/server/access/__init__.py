"""Who may do what: keys, roles, quotas and the audit of one server.

The one check that the native API, the BigQuery surface and the command line share. A route does::

    principal = principal_in(request)                  # the gate has looked at the credentials
    access.require(principal, Action.APPEND, table)    # or ForbiddenError, answered by 403
    charge = access.charge(principal, table, events, size)  # or QuotaError, answered by 429
    ...                                                # charge.give_back() when nothing was stored

and a listener that is not behind the gate (gRPC) begins with ``access.principal_of(headers)``, for
each message of a stream anew, and tells refusals to ``access.refused``. Lists are filtered by
``access.sees``. Policies as BigQuery's clients know them: ``access.policy_of``,
``access.set_policy``, ``access.permitted``. Whoever drops a table or dataset calls
``access.withdraw`` first, so that a later one of its name is not open to the same keys.
"""

from eventmill.server.access.access import SERVER, Access
from eventmill.server.access.audit import Caller
from eventmill.server.access.errors import (
    CredentialsError,
    ForbiddenError,
    PolicyConflictError,
)
from eventmill.server.access.gate import REFUSAL, Gate, principal_in
from eventmill.server.access.policy import Binding, Policy
from eventmill.server.access.principal import (
    ANONYMOUS,
    NO_QUOTA,
    Principal,
    PrincipalKind,
    Quota,
)
from eventmill.server.access.quota import Charge
from eventmill.server.access.roles import EVERYTHING, Action, Grant, Resource, Role
from eventmill.server.access.upkeep import AccessUpkeep

__all__ = [  # noqa: RUF022 - by the order of str, as everywhere here
    "ANONYMOUS",
    "Access",
    "AccessUpkeep",
    "Action",
    "Binding",
    "Caller",
    "Charge",
    "CredentialsError",
    "EVERYTHING",
    "ForbiddenError",
    "Gate",
    "Grant",
    "NO_QUOTA",
    "Policy",
    "PolicyConflictError",
    "Principal",
    "PrincipalKind",
    "Quota",
    "REFUSAL",
    "Resource",
    "Role",
    "SERVER",
    "principal_in",
]
