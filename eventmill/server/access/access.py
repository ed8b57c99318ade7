"""``Access``: the door of this room, one for each server."""

from __future__ import annotations

import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterable, Sequence

from eventmill.base.clock import SYSTEM_CLOCK, Clock
from eventmill.base.errors import AccessError, EventmillError, UnavailableError
from eventmill.schema.table import TableId
from eventmill.server.access.assertion import read_assertion
from eventmill.server.access.audit import (
    Act,
    Caller,
    RefusalTally,
    act_id,
    act_to_json,
    read_acts,
)
from eventmill.server.access.bearer import Headers, bearer_of
from eventmill.server.access.database import (
    ACCESS_FILE,
    IN_MEMORY,
    AccessDatabase,
    AccessTokenRow,
)
from eventmill.server.access.errors import CredentialsError, ForbiddenError, PolicyConflictError
from eventmill.server.access.keys import KeyRing
from eventmill.server.access.policy import (
    Binding,
    Policy,
    action_of_permission,
    policy_of_rows,
    rows_of_bindings,
)
from eventmill.server.access.principal import (
    ANONYMOUS,
    NO_QUOTA,
    Principal,
    PrincipalKind,
    Quota,
)
from eventmill.server.access.quota import Charge, Quotas
from eventmill.server.access.roles import EVERYTHING, Action, Grant, Place, Resource, Role
from eventmill.server.access.signers import Signers
from eventmill.server.access.snapshot import (
    NO_KEYS,
    Credential,
    Snapshot,
    load_snapshot,
    secret_hash,
)
from eventmill.server.access.withdrawing import withdraw_grants
from eventmill.wire.api_token import TOKEN_BYTES, token_fault, token_of

LOOK_SECONDS = 0.25
"""The longest time for which a revoked key is still taken when another process revoked it."""
ACCESS_TOKEN_SECONDS = 3_600
_ACCESS_TOKENS_MAX = 100
"""Short-lived tokens of one service account; asking for more ends the oldest."""
_ISSUED_KEPT_MAX = 1_000
"""Short-lived tokens given after which those that have expired meanwhile are forgotten."""

FOLDER_OWNER = Principal("folder", PrincipalKind.FOLDER, (Grant(Role.ADMIN, EVERYTHING),))
"""Whoever owns the data folder, and could open its files as well."""
SERVER = Principal("server", PrincipalKind.FOLDER, (Grant(Role.ADMIN, EVERYTHING),))
"""The server itself, such as when a table's time is over."""


class Access:
    """Who may do what on one server. Safe from any thread.

    No call on the way in touches a disk, but for a look at ``access.db`` four times a second.
    """

    def __init__(
        self, path: str, *, table_quota: Quota = NO_QUOTA, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        """Open ``access.db``; use ``Access.open`` or ``Access.in_memory``."""
        self._clock = clock
        self._database = AccessDatabase(path)
        # Looking for changes must not wait for a transaction that is being synced.
        self._watch = self._database if path == IN_MEMORY else AccessDatabase(path)
        self._lock = threading.Lock()
        self._snapshot = NO_KEYS
        self._changes = (-1, -1)
        self._revision = -1
        self._looked_at = float("-inf")
        self._signers = Signers()
        self._issued = 0
        self._folder_hash = b""
        self._uses: dict[int, float] = {}
        self.refusals = RefusalTally()
        self.quotas = Quotas(clock, table_quota)
        with self._database.reading():
            self.quotas.remember(self._database.quota_levels())
        self.look()

    @classmethod
    def open(
        cls, folder: str, *, table_quota: Quota = NO_QUOTA, clock: Clock = SYSTEM_CLOCK
    ) -> Access:
        """Open the keys of the store in ``folder``.

        Raises:
            UnavailableError: SQLite cannot open the file.
            CorruptStoreError: a newer version of Eventmill wrote it.
        """
        path = os.path.join(os.path.abspath(os.path.expanduser(folder)), ACCESS_FILE)
        return cls(path, table_quota=table_quota, clock=clock)

    @classmethod
    def in_memory(cls, *, table_quota: Quota = NO_QUOTA, clock: Clock = SYSTEM_CLOCK) -> Access:
        """Keep keys in this process alone, for a store that has no folder."""
        return cls(IN_MEMORY, table_quota=table_quota, clock=clock)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._watch.close()
        self._database.close()

    # -- who ------------------------------------------------------------------------------

    @property
    def is_required(self) -> bool:
        """Whether every request needs a key: from the first key on, for good.

        Also when all are revoked or expired: the end of a key must not open a server.
        """
        try:
            return self._fresh().is_required
        except UnavailableError:
            return self._snapshot.is_required  # no request gets further than this, either way

    def principal_of(self, headers: Headers) -> Principal:
        """Return who calls: ANONYMOUS while no key has ever been made.

        Args:
            headers: ASGI's ``scope["headers"]``, or a gRPC call's metadata. For each message of
                a stream anew, so that a revoked key ends it.

        Raises:
            CredentialsError: no key, or one that is unknown, expired or revoked (HTTP 401, with
                the headers of ``problems.headers_of(error)``). An UnauthenticatedError.
            UnavailableError: the keys cannot be read now.
        """
        snapshot = self._fresh()
        if not snapshot.is_required:
            return ANONYMOUS
        bearer = bearer_of(headers)
        now = self._clock.now()
        if bearer.count(".") == 2:
            principal = self._signers.principal_of(bearer, snapshot, now)
        else:
            principal = self._holder(bearer, snapshot, now)
        if principal.key_id:
            self._uses[principal.key_id] = now
        return principal

    def folder_token(self) -> str:
        """Make the token by which this machine's owner of the folder reaches this very server.

        It is written where only those can read it who can read the data as well, and ends with
        the process; an earlier one ends now.
        """
        token = token_of(secrets.token_bytes(TOKEN_BYTES))
        self._folder_hash = secret_hash(token)
        return token

    def exchange(self, assertion: str) -> str:
        """Return an access token for what a service account has signed (RFC 7523).

        It is kept as its hash alone, and holds for an hour, also when the server starts anew.

        Raises:
            CredentialsError: the assertion does not hold.
        """
        now = self._clock.now()
        signed = read_assertion(assertion, self._fresh(), now)
        token = token_of(secrets.token_bytes(TOKEN_BYTES))
        row = AccessTokenRow(
            secret_hash(token), signed.account.key.id, signed.scope, now + ACCESS_TOKEN_SECONDS
        )
        with self._database.writing():
            self._database.insert_access_token(row, now, kept_max=_ACCESS_TOKENS_MAX)
        with self._lock:
            self._snapshot = self._snapshot.with_tokens([row])
            self._issued += 1
            if self._issued % _ISSUED_KEPT_MAX == 0:  # read anew, without those that have expired
                self._revision, self._changes = -1, (-1, -1)
        return token

    def _holder(self, token: str, snapshot: Snapshot, now: float) -> Principal:
        """Return whose token it is."""
        digest = secret_hash(token)
        credential = snapshot.find(digest)
        if credential is None:
            if hmac.compare_digest(self._folder_hash, digest):
                return FOLDER_OWNER
            fault = token_fault(token)
            if fault:
                raise CredentialsError(
                    "malformed", f"this is not one of this server's keys: {fault}"
                )
            raise CredentialsError("unknown", "this server does not know the key: it is another's")
        _check_live(credential, now)
        return credential.principal

    # -- may ------------------------------------------------------------------------------

    def allows(self, principal: Principal, action: Action, place: Place) -> bool:
        """Tell whether ``principal`` may do ``action`` on a table, dataset or project."""
        return principal.may(action, place, self._clock.now())

    def require(self, principal: Principal, action: Action, place: Place) -> None:
        """Raise ForbiddenError (HTTP 403) unless ``principal`` may do ``action`` there."""
        if not principal.may(action, place, self._clock.now()):
            raise ForbiddenError(principal.name, action, Resource.of(place))

    def require_query(self, principal: Principal, tables: Iterable[TableId]) -> None:
        """Raise ForbiddenError unless ``principal`` may read each table that a query names."""
        for table in tables:
            self.require(principal, Action.READ, table)

    def reads_everything(self, principal: Principal) -> bool:
        """Tell whether no table is closed to ``principal``: a query need not be looked at."""
        return principal.may_everywhere(Action.READ, self._clock.now())

    def allows_somewhere(self, principal: Principal, action: Action) -> bool:
        """Tell whether there is anything at all on which ``principal`` may do ``action``."""
        return principal.may_somewhere(action, self._clock.now())

    def sees(self, principal: Principal, place: Place) -> bool:
        """Tell whether a list may show ``place`` (a dataset is seen by whoever sees a table)."""
        return principal.sees(place, self._clock.now())

    def charge(self, principal: Principal, table: TableId, events: int, size: int) -> Charge:
        """Take ``events`` and ``size`` bytes from the quotas of the key and of the table.

        Raises:
            QuotaError: one of them is used up (HTTP 429 with Retry-After; a BackPressureError).
        """
        return self.quotas.charge(principal, table, events, size)

    # -- noted ----------------------------------------------------------------------------

    def refused(
        self,
        principal: Principal | None,
        route: str,
        error: EventmillError,
        caller: Caller = Caller(),  # noqa: B008 - immutable
    ) -> None:
        """Note a refused call in the audit; the gate does so for every HTTP answer 401 and 403."""
        name, reason, resource = principal.name if principal else "", "refused", ""
        if isinstance(error, CredentialsError):
            name, reason = error.name, error.reason
        elif isinstance(error, ForbiddenError):
            reason, resource = f"may_not_{error.action}", str(error.resource)
        elif isinstance(error, AccessError):
            reason = "forbidden"
        self.refusals.note(
            Act(
                "refused",
                name,
                resource,
                str(error),
                self._clock.now(),
                route=route,
                reason=reason,
                peer=caller.peer,
                client=caller.client,
            )
        )

    def record(self, principal: Principal, act: str, place: Place | str, detail: str = "") -> None:
        """Note an administrative act, such as ``table_dropped``, durably. Not on the loop's thread.

        Policies and keys are noted already, and tables that go through the native routes.
        """
        now = self._clock.now()
        noted = Act(act, principal.name, _shown(place), detail, now)
        with self._database.writing():
            self._database.insert_act(act_id(now), json.dumps(act_to_json(noted)))

    # -- administered ---------------------------------------------------------------------

    def keys(self, principal: Principal) -> KeyRing:
        """Return the keys as ``principal`` may administer them; ``look`` after a change."""
        return KeyRing(self._database, self._clock, principal)

    def policy_of(self, place: Place) -> Policy:
        """Return the bindings on exactly this table, dataset or project.

        ``reader`` is roles/bigquery.dataViewer, ``editor`` dataEditor, ``admin`` dataOwner,
        ``appender`` roles/eventmill.appender.
        """
        with self._database.reading():
            rows, keys = self._database.grant_rows(), self._database.key_rows()
        return policy_of_rows(rows, keys, Resource.of(place), self._clock.now())

    def set_policy(
        self, principal: Principal, place: Place, bindings: Sequence[Binding], etag: str = ""
    ) -> Policy:
        """Replace the bindings on exactly this resource.

        Args:
            principal: who does so; must be allowed to.
            place: the resource.
            bindings: all that shall hold; members ``serviceAccount:EMAIL`` of live keys, or
                ``allAuthenticatedUsers``. Members ``user:``, ``group:`` and ``domain:`` are kept
                without effect: nobody signs in by them here.
            etag: of the policy that was read; empty: whatever it is.

        Raises:
            ForbiddenError: the principal does not administer the resource.
            PolicyConflictError: the policy has changed since (HTTP 409).
            UsageError: a role or a member that means nothing here (HTTP 400).
        """
        self.require(principal, Action.ADMINISTER, place)
        resource, now = Resource.of(place), self._clock.now()
        with self._database.writing():
            keys = self._database.key_rows()
            live = policy_of_rows(self._database.grant_rows(), keys, resource, now)
            if etag and not hmac.compare_digest(etag.encode(), live.etag.encode()):
                raise PolicyConflictError(
                    f"the policy of {resource} has changed since it was read: read it again"
                )
            rows = rows_of_bindings(bindings, keys, resource, now)
            self._database.delete_grants(str(resource))
            self._database.insert_grants(rows)
            self._database.count_revision()
            policy = policy_of_rows(self._database.grant_rows(), keys, resource, now)
            told = "; ".join(f"{b.role} {', '.join(b.members)}" for b in policy.bindings)
            noted = Act("policy_set", principal.name, str(resource), told, now)
            self._database.insert_act(act_id(now), json.dumps(act_to_json(noted)))
        self.look()
        return policy

    def withdraw(self, principal: Principal, place: Place) -> None:
        """End the grants on exactly this table, or in this dataset, which is about to be dropped.

        Who drops it, and may, need not administer it: what is left of it allows nobody anything.
        """
        if withdraw_grants(self._database, self._clock, principal.name, place):
            self.look()

    def permitted(
        self, principal: Principal, place: Place, permissions: Sequence[str]
    ) -> list[str]:
        """Return which of BigQuery's permissions (``bigquery.tables.getData``) are held there."""
        wanted = [(name, action_of_permission(name)) for name in permissions]
        return [
            name
            for name, action in wanted
            if action is not None and self.allows(principal, action, place)
        ]

    # -- kept -----------------------------------------------------------------------------

    def note_use(self) -> None:
        """Note when keys were last used, and how far the daily quotas are."""
        uses, self._uses = self._uses, {}
        levels = self.quotas.levels()
        if uses or levels:
            with self._database.writing():
                # As a list, taken in one step: a request may still be writing to the old one.
                self._database.note_uses(list(uses.items()))
                self._database.note_quota_levels(levels)

    def waiting_acts(self, limit: int) -> list[tuple[str, Act]]:
        """Return acts that the audit table does not have yet, the oldest first."""
        with self._database.reading():
            return read_acts(self._database.acts(limit))

    def forget_acts(self, act_ids: Iterable[str]) -> None:
        """Forget acts that the audit table has."""
        with self._database.writing():
            self._database.delete_acts(act_ids)

    def look(self) -> None:
        """Look at ``access.db`` now: this process has changed it.

        Raises:
            UnavailableError: it cannot be read, or is not where it was.
        """
        with self._lock:
            self._look()

    def _fresh(self) -> Snapshot:
        # Without the lock first: a float and a reference are read whole.
        if self._clock.monotonic() - self._looked_at >= LOOK_SECONDS:
            with self._lock:
                if self._clock.monotonic() - self._looked_at >= LOOK_SECONDS:
                    self._look()
        return self._snapshot

    def _look(self) -> None:
        if not self._watch.is_in_place():
            raise UnavailableError(
                f"{self._watch.path} was moved or removed while the server runs, and with it the"
                " knowledge of who may do what: put it back, or start the server anew"
            )
        changes = self._watch.changes_seen()
        if changes != self._changes:
            with self._watch.reading():
                revision = self._watch.revision()
            if revision != self._revision:
                self._revision, self._snapshot = load_snapshot(self._watch, self._clock.now())
            self._changes = changes
        self._looked_at = self._clock.monotonic()


def _check_live(credential: Credential, now: float) -> None:
    name = credential.principal.name
    if credential.is_revoked:
        raise CredentialsError("revoked", f"the key {name!r} was revoked", name=name)
    if credential.expires_at is not None and credential.expires_at <= now:
        raise CredentialsError(
            "expired", f"the key {name!r}, or its access token, has expired", name=name
        )


def _shown(place: Place | str) -> str:
    return place if isinstance(place, str) else str(Resource.of(place))
