"""A service's table at its start."""

import threading
from dataclasses import replace

import pytest
from proto_world import compiled

from eventmill.base.errors import SchemaConflictError, UnavailableError
from eventmill.schema.mapping import spec_from_proto
from eventmill.schema.message_type import MessageType
from eventmill.schema.table import TableId
from eventmill.store.ensure import ensure_table
from eventmill.store.local.store import LocalStore
from eventmill.store.memory import MemoryStore
from eventmill.wire.batch import Batch

TABLE = TableId("local", "t", "m")
IN = "message In { string a = 1; %s }"
BASE = "message M { string name = 1; In in = 2; }" + IN % ""
LEFT = "message M { string name = 1; In in = 2; optional int64 left = 3; }" + IN % "int64 l = 2;"
RIGHT = (
    (
        "message M { string name = 1; In in = 2; oneof which { string right = 4; E other = 5; }"
        " repeated Only only = 6; }"
    )
    + (IN % "optional bool r = 3;")
    + "enum E { ZERO = 0; ONE = 1; } message Only { string o = 1; }"
)


def spec(body, **changes):
    return spec_from_proto(TABLE, compiled(body), "t.M", **changes)


@pytest.fixture(params=["memory", "local"])
def store(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else LocalStore.open(str(tmp_path / "s"))
    yield made
    made.close()


def columns(table):
    return [path for path, _ in table.spec.walk()]


def test_a_table_is_made_once_and_then_costs_no_call(store, monkeypatch):
    made = ensure_table(store, spec(BASE))
    assert made.version == 1
    monkeypatch.setattr(type(store), "describe", None)
    monkeypatch.setattr(type(store), "apply", None)
    assert ensure_table(store, spec(BASE)) == made


def test_two_versions_of_a_service_add_to_each_other_and_come_to_rest(store):
    ensure_table(store, spec(BASE, owner="ops", description="What it is."))
    for _ in range(2):
        for body in (LEFT, RIGHT, BASE):
            ensure_table(store, spec(body, owner="other", clustering=("name",)))
            # Another process knows nothing of what this one has ensured.
            from eventmill.store import ensure

            ensure._done.clear()
    table = store.describe(TABLE)
    assert table.version == 3
    assert sorted(columns(table)) == sorted(
        ["name", "in", "in.a", "in.l", "in.r", "left", "right", "other", "only", "only.o"]
    )
    assert (table.spec.owner, table.spec.description) == ("ops", "What it is.")
    assert table.spec.clustering == ()
    sent = {
        "1": (LEFT, {"name": "l", "left": 0, "in": {"l": 7}}),
        "2": (RIGHT, {"name": "r", "other": "ONE", "in": {"r": True}, "only": [{"o": "x"}]}),
    }
    for insert_id, (body, fields) in sent.items():
        loaded = MessageType.load(compiled(body), "t.M")
        event = loaded.cls(**fields).SerializeToString()
        batch = Batch.build(TABLE, loaded.fingerprint, [insert_id.encode()], [event])
        assert store.put(batch).accepted == 1
    rows = list(store.query("SELECT name, m.in, left, other, only FROM t.m ORDER BY name"))
    assert rows == [
        {"name": "l", "in": {"a": "", "l": 7, "r": None}, "left": 0, "other": None, "only": []},
        {
            "name": "r", "in": {"a": "", "l": 0, "r": True}, "left": None, "other": "ONE",
            "only": [{"o": "x"}],
        },
    ]  # fmt: skip
    assert store.stats(TABLE).ahead_rows == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("message M { int64 name = 1; }", "name"),
        ("message M { string name = 7; }", "name"),
        ("message M { repeated string name = 1; }", "name"),
    ],
)
def test_what_a_live_table_does_not_allow_is_refused(store, body, told):
    live = ensure_table(store, spec(BASE))
    with pytest.raises(SchemaConflictError, match=told):
        ensure_table(store, spec(body))
    assert store.describe(TABLE) == live


def test_a_failure_is_not_remembered(store, monkeypatch):
    def fail(*_, **__):
        raise UnavailableError("down")

    with monkeypatch.context() as broken:
        broken.setattr(type(store), "apply", fail)
        with pytest.raises(UnavailableError):
            ensure_table(store, spec(BASE))
    assert ensure_table(store, spec(BASE)).version == 1


def test_many_callers_at_once_apply_once_and_a_lost_race_is_run_again(store, monkeypatch):
    applied = []
    apply = type(store).apply

    def counted(self, wanted, *, expected_version=None):
        if not applied:  # another process was faster
            apply(self, replace(spec(LEFT), description="first"))
        applied.append(expected_version)
        return apply(self, wanted, expected_version=expected_version)

    monkeypatch.setattr(type(store), "apply", counted)
    threads = [threading.Thread(target=ensure_table, args=(store, spec(RIGHT))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert applied == [0, 1]
    assert {"left", "right"} < set(columns(store.describe(TABLE)))
