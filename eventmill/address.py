"""Where events go, as people write it: an address, and the sink or store that answers there.

``http://host:port`` is a server, ``bigquery://PROJECT`` a project of Google BigQuery; anything
without a scheme is a data folder. This module stands
beside the floors, not on one: it is what ``eventmill.connect`` and the command line share, and
the only place that picks an implementation. It imports one when the address asks for it, so that
a program that sends to a server needs no store's packages.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from eventmill.base.errors import StoreBusyError, UsageError
from eventmill.base.patience import call_patiently
from eventmill.base.settings import Settings, load_settings

if TYPE_CHECKING:
    from eventmill.store.bigquery.store import BigQueryStore
    from eventmill.store.port import Store
    from eventmill.wire.sink import Sink

BUSY_WAIT_SECONDS = 10.0
"""How long opening a folder waits for another short-lived writer, such as ``eventmill send``."""


def connect(
    address: str | None = None,
    *,
    key: str | None = None,
    compression: Literal["zstd"] | None = None,
    settings: Settings | None = None,
) -> Sink:
    """Return the sink at ``address``, for an uploader to put batches into.

    Nothing is sent yet, and a server need not be up. With a data folder, a server that runs on
    the folder is used; otherwise this process becomes the folder's writer until ``close``, and
    makes the folder when it is missing, so that a service may start before its tables are there.

    Args:
        address: ``http://host:port``, ``https://...``, ``bigquery://PROJECT`` or a folder; None:
            as in the settings.
        key: credential for the server; None: as in the settings (``EVENTMILL_KEY``).
        compression: of batches on their way to a server; None: none.
        settings: None: read from the environment and the configuration files.

    Raises:
        UsageError: the address is none of these.
        StoreBusyError: another process held the folder for ten seconds.
    """
    settings = settings or load_settings().settings
    address = address or settings.client.store
    if is_server(address):
        from eventmill.client.http_sink import HttpSink

        return HttpSink(
            address,
            key=key or settings.client.key,
            timeout_seconds=settings.client.timeout_seconds,
            compression=compression,
        )
    return open_store(address, key=key, create=True, settings=settings)


def open_store(
    address: str | None = None,
    *,
    key: str | None = None,
    writer: bool = True,
    create: bool = False,
    settings: Settings | None = None,
) -> Store:
    """Open the store at ``address``: tables, queries, and putting events.

    Args:
        address: ``http://host:port``, ``https://...``, ``bigquery://PROJECT`` or a folder; None:
            as in the settings.
        key: credential for the server; None: as in the settings (``EVENTMILL_KEY``).
        writer: False opens a folder for reading alone, beside any writer. Of no meaning with a
            server.
        create: make a store where ``address`` names none yet, instead of raising. The address
            of the settings is made in any case, except for reading.
        settings: None: read from the environment and the configuration files.

    Raises:
        UsageError: the address is none of these, or there is no store in the folder.
        StoreBusyError: another process held the folder for ten seconds.
    """
    settings = settings or load_settings().settings
    # Written down once for all programs, the settings' address is no slip of the pen.
    create = create or address is None
    address = address or settings.client.store
    if is_server(address):
        return _server_store(address, key, settings)
    if is_bigquery(address):
        return bigquery_store(address)
    if not (writer and create):
        require_store(address)
    if not writer:
        return _folder_reader(address, settings)
    return call_patiently(
        lambda: _folder_writer(address, key, settings),
        retry_on=StoreBusyError,
        wait_seconds=BUSY_WAIT_SECONDS,
    )


def is_server(address: str) -> bool:
    """Tell whether ``address`` names a server of Eventmill.

    Raises:
        UsageError: it has a scheme that this version does not know.
    """
    return _scheme(address) in ("http", "https")


def is_bigquery(address: str) -> bool:
    """Tell whether ``address`` names a project of BigQuery; UsageError as ``is_server``."""
    return _scheme(address) == "bigquery"


def is_folder(address: str) -> bool:
    """Tell whether ``address`` names a folder; UsageError as ``is_server``."""
    return not _scheme(address)


def _scheme(address: str) -> str:
    scheme, mark, _ = address.partition("://")
    if not mark:
        return ""
    if scheme in ("http", "https", "bigquery"):
        return scheme
    raise UsageError(
        f"no store is known by the scheme of {address!r}; write http://HOST:PORT, https://...,"
        " bigquery://PROJECT or the path of a folder"
    )


def require_store(address: str) -> None:
    """Make sure that ``address`` is a server's, BigQuery's, or a folder that holds a store.

    Raises:
        UsageError: it is neither; the message says what makes a store there.
    """
    if not is_folder(address):
        return
    from eventmill.store.local.layout import Layout

    if not os.path.exists(Layout.at(address).database):
        raise UsageError(
            f"there is no store at {address!r}: --store or EVENTMILL_STORE names another folder;"
            " `eventmill table apply`, or open_store with create=True, makes a store there"
        )


def _server_store(url: str, key: str | None, settings: Settings) -> Store:
    from eventmill.client.http_store import HttpStore

    return HttpStore(
        url, key=key or settings.client.key, timeout_seconds=settings.client.timeout_seconds
    )


def bigquery_store(address: str) -> BigQueryStore:
    """Return the store of a project of BigQuery; no request is made yet.

    Raises:
        UsageError: the address is not of that form, or Google's libraries are not installed.
        AccessError: there are no credentials, or they cannot be used.
    """
    try:
        from eventmill.store.bigquery.place import BigQueryPlace
        from eventmill.store.bigquery.store import BigQueryStore
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{address} needs Google's client libraries ({error.name} is not installed):"
            " pip install 'eventmill[server,bigquery]'"
        ) from error
    return BigQueryStore(BigQueryPlace.parse(address))


def _folder_reader(path: str, settings: Settings) -> Store:
    from eventmill.store.local.store import LocalStore

    return LocalStore.open(path, options=settings.store, writer=False)


def _folder_writer(path: str, key: str | None, settings: Settings) -> Store:
    """Open ``path`` through the server that runs on it, or else take it for this process."""
    from eventmill.store.local.lock import server_key, server_url
    from eventmill.store.local.store import LocalStore

    url = server_url(path)
    if url is not None:
        # Whoever can read the folder needs no key for it, with a server on it or without.
        return _server_store(url, key or settings.client.key or server_key(path), settings)
    return LocalStore.open(path, options=settings.store, writer=True)
