"""What each route asks, and that there is no way around it."""

import base64

import pytest
from access_world import BATCH, OPEN, SECRET, bearer, reason

from eventmill.schema.document import spec_to_json
from eventmill.schema.table import TableId
from eventmill.testing.events import build_batch, build_spec

TABLES = "/api/v1/tables"
HERE = f"{TABLES}/ops.builds"
THERE = f"{TABLES}/pay.wages"
QUERY = "/api/v1/query"


def post_events(client, token, table=OPEN, name="new"):
    return client.post(
        f"{TABLES}/{table}/events",
        content=build_batch(name, table=table).payload,
        headers={**BATCH, **bearer(token)},
    )


def ask(client, token, sql, **more):
    return client.post(QUERY, json={"sql": sql, **more}, headers=bearer(token))


def quarantined(table):
    payload = base64.b64encode(b"{}").decode()
    words = {"insert_id": "q", "reason": "wrong_type", "field": "name", "message": "no"}
    return {"table": table, "payload": payload, "is_json": True, **words}


def test_an_appender_writes_its_table_and_reads_nothing(client, make, store):
    token = make("ci", "appender:ops.builds")
    assert post_events(client, token).json()["accepted"] == 1
    assert client.get(HERE, headers=bearer(token)).status_code == 200
    for answer in (
        ask(client, token, "SELECT * FROM ops.builds"),
        ask(client, token, "SELECT 1"),
        client.get(f"{QUERY}?q=SELECT+1", headers=bearer(token)),
        client.get(f"{HERE}/stats", headers=bearer(token)),
        client.get("/metrics", headers=bearer(token)),
        client.put(HERE, json=spec_to_json(build_spec(OPEN)), headers=bearer(token)),
        client.delete(HERE, headers=bearer(token)),
        client.get("/api/v1/keys", headers=bearer(token)),
        post_events(client, token, SECRET),
        client.get(THERE, headers=bearer(token)),
    ):
        assert (answer.status_code, reason(answer)[0]) == (403, "access"), answer.text
    assert store.stats(SECRET).rows == 1


def test_a_reader_reads_its_table_and_writes_nothing(client, make, store):
    token = make("boards", "reader:ops.*")
    answer = ask(client, token, "SELECT name FROM ops.builds")
    assert answer.json()["rows"] == [{"name": "seed"}]
    assert client.get(f"{HERE}/stats", headers=bearer(token)).json()["rows"] == 1
    for answer in (
        post_events(client, token),
        client.post(
            f"{HERE}/events",
            content=b'{"name": "x"}',
            headers={"Content-Type": "application/json", **bearer(token)},
        ),
        client.post("/api/v1/quarantine", json=[quarantined("ops.builds")], headers=bearer(token)),
        client.delete(HERE, headers=bearer(token)),
        client.put(HERE, json=spec_to_json(build_spec(OPEN)), headers=bearer(token)),
    ):
        assert (answer.status_code, reason(answer)[0]) == (403, "access")
    assert store.stats(OPEN).rows == 1
    assert not list(store.query("SELECT 1 AS one FROM eventmill.quarantine"))


FORBIDDEN = {
    "plain": "SELECT * FROM pay.wages",
    "whole name": "SELECT * FROM `local.pay.wages`",
    "quoted in parts": "SELECT * FROM `local`.`pay`.`wages`",
    "alias of an allowed name": "SELECT * FROM pay.wages AS builds",
    "join": "SELECT b.name FROM ops.builds AS b JOIN pay.wages AS w ON b.name = w.name",
    "comma": "SELECT b.name FROM ops.builds AS b, pay.wages AS w",
    "subquery in FROM": "SELECT * FROM (SELECT name FROM pay.wages)",
    "subquery in SELECT": "SELECT (SELECT COUNT(*) FROM pay.wages) AS n FROM ops.builds",
    "subquery in WHERE": "SELECT name FROM ops.builds WHERE name IN (SELECT name FROM pay.wages)",
    "exists": "SELECT name FROM ops.builds WHERE EXISTS (SELECT 1 FROM pay.wages)",
    "in ORDER BY": "SELECT name FROM ops.builds ORDER BY (SELECT COUNT(*) FROM pay.wages)",
    "in HAVING": (
        "SELECT name FROM ops.builds GROUP BY name"
        " HAVING COUNT(*) < (SELECT COUNT(*) FROM pay.wages)"
    ),
    "CTE": "WITH builds AS (SELECT * FROM pay.wages) SELECT * FROM builds",
    "CTE that is not used": "WITH w AS (SELECT * FROM pay.wages) SELECT name FROM ops.builds",
    "CTE in a CTE": (
        "WITH a AS (WITH b AS (SELECT name FROM pay.wages) SELECT * FROM b) SELECT * FROM a"
    ),
    "UNION": "SELECT name FROM ops.builds UNION ALL SELECT name FROM pay.wages",
    "EXCEPT": "SELECT name FROM ops.builds EXCEPT DISTINCT SELECT name FROM pay.wages",
    "array": "SELECT ARRAY(SELECT name FROM pay.wages) AS names FROM ops.builds",
    "unnest of a subquery": "SELECT * FROM UNNEST(ARRAY(SELECT name FROM pay.wages))",
    "another project": "SELECT * FROM other.ops.builds",
    "upper case": "SELECT * FROM PAY.WAGES",
    "none of that name": "SELECT * FROM pay.wagesx",
    "comments": "SELECT * FROM /* ops.builds */ pay.wages -- ops.builds",
}


@pytest.mark.parametrize("way", FORBIDDEN)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_query_is_refused_for_any_table_that_it_names(client, make, way, dry_run):
    token = make("boards", "reader:ops.*")
    answer = ask(client, token, FORBIDDEN[way], dry_run=dry_run)
    assert answer.status_code in (400, 403), answer.text
    assert "seed" not in answer.text
    if answer.status_code == 403:
        assert reason(answer)[0] == "access"
        assert answer.json()["action"] == "read"
    else:  # outside the subset of SQL, for everybody
        assert ask(client, make("boss", "admin:*"), FORBIDDEN[way]).status_code == 400


def test_most_of_those_ways_are_refused_for_the_table_and_not_for_the_sql(client, make):
    token = make("boards", "reader:ops.*")
    refused = [ask(client, token, sql).status_code for sql in FORBIDDEN.values()]
    assert refused.count(403) >= len(FORBIDDEN) - 3


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT name AS wages FROM ops.builds AS wages",
        "WITH wages AS (SELECT * FROM ops.builds) SELECT name FROM wages",
        "SELECT 'pay.wages' AS name FROM ops.builds",
        "SELECT 1 AS one",
    ],
)
def test_a_name_that_only_looks_like_a_forbidden_table_is_none(client, make, sql):
    assert ask(client, make("boards", "reader:ops.*"), sql).status_code == 200


def test_a_parameter_cannot_bring_in_a_table(client, make):
    token = make("boards", "reader:ops.*")
    answer = ask(client, token, "SELECT @t AS t FROM ops.builds", params={"t": "pay.wages"})
    assert answer.json()["rows"] == [{"t": "pay.wages"}]


def test_the_address_is_checked_like_the_body(client, make):
    token = make("boards", "reader:ops.*")
    answer = client.get(f"{QUERY}?q=SELECT+*+FROM+pay.wages", headers=bearer(token))
    assert answer.status_code == 403


def test_lists_show_what_a_key_may_know_of(client, make):
    def names(token):
        answer = client.get(TABLES, headers=bearer(token))
        return [table["table"] for table in answer.json()["tables"]]

    assert names(make("a", "appender:ops.builds")) == ["local.ops.builds"]
    assert names(make("b", "reader:pay.*")) == ["local.pay.wages"]
    assert names(make("c", "editor:local.*.*")) == ["local.ops.builds", "local.pay.wages"]
    assert names(make("d", "reader:none.at_all")) == []


def test_a_forbidden_table_and_one_that_is_none_are_answered_alike(client, make):
    token = make("ci", "editor:ops.*")
    there, nowhere = (
        client.get(f"{TABLES}/pay.{name}", headers=bearer(token)) for name in ("wages", "nothing")
    )
    assert there.status_code == nowhere.status_code == 403
    assert there.json()["detail"].replace("wages", "nothing") == nowhere.json()["detail"]


def test_no_name_of_a_hidden_table_is_offered(client, make, store):
    store.apply(build_spec(TableId("local", "pay", "buildz")))
    token = make("ci", "editor:ops.*")
    for answer in (
        client.get(f"{TABLES}/ops.buildz", headers=bearer(token)),
        client.delete(f"{TABLES}/ops.buildz", headers=bearer(token)),
        post_events(client, token, TableId("local", "ops", "buildz")),
        ask(client, token, "SELECT * FROM ops.buildz"),
    ):
        assert answer.status_code == 404, answer.text
        assert "pay" not in answer.text
    assert "ops.builds" in client.get(f"{TABLES}/ops.buildz", headers=bearer(token)).text
    boss = make("boss", "admin:*")
    assert "pay.buildz" in client.get(f"{TABLES}/ops.buildz", headers=bearer(boss)).text


def test_an_editor_makes_and_drops_tables_where_it_is_one_and_the_audit_knows(client, make, audit):
    token = make("dev", "editor:ops.*")
    named = TableId("local", "ops", "more")
    path = f"{TABLES}/ops.more"
    for _ in range(2):  # the second time nothing changes
        answer = client.put(path, json=spec_to_json(build_spec(named)), headers=bearer(token))
        assert answer.status_code == 200
    assert client.delete(path, headers=bearer(token)).status_code == 204
    other = spec_to_json(build_spec(TableId("local", "pay", "more")))
    assert client.put(f"{TABLES}/pay.more", json=other, headers=bearer(token)).status_code == 403
    acts = [(row["act"], row["principal"], row["resource"]) for row in audit()]
    assert acts.count(("table_applied", "dev", "local.ops.more")) == 1
    assert acts.count(("table_dropped", "dev", "local.ops.more")) == 1
    assert ("refused", "dev", "local.pay.more") in acts


def test_nobody_writes_to_the_stores_own_tables(client, make):
    token = make("boss", "admin:*")
    own = TableId("local", "eventmill", "audit")
    assert post_events(client, token, own).status_code == 403
    assert client.delete(f"{TABLES}/eventmill.audit", headers=bearer(token)).status_code == 403


def test_quarantine_and_audit_are_read_as_their_rules_say(client, make):
    sql = "SELECT COUNT(*) AS n FROM eventmill."
    project, everything = make("p", "admin:local.*.*"), make("r", "reader:*")
    boss, named = make("boss", "admin:*"), make("n", "reader:eventmill.audit")
    answers = {
        "quarantine": (project, 403, everything, 200, boss, 200, named, 403),
        "audit": (project, 403, everything, 403, boss, 200, named, 200),
    }
    for table, (one, a, two, b, three, c, four, d) in answers.items():
        for token, status in ((one, a), (two, b), (three, c), (four, d)):
            assert ask(client, token, sql + table).status_code == status


def test_reports_to_quarantine_need_the_right_to_append_to_every_table(client, make, store):
    token = make("ci", "appender:ops.builds")
    mixed = [quarantined("ops.builds"), quarantined("pay.wages")]
    answer = client.post("/api/v1/quarantine", json=mixed, headers=bearer(token))
    assert (answer.status_code, answer.json()["resource"]) == (403, "local.pay.wages")
    assert not list(store.query("SELECT 1 AS one FROM eventmill.quarantine"))
    answer = client.post("/api/v1/quarantine", json=mixed[:1], headers=bearer(token))
    assert answer.json() == {"count": 1}


def test_metrics_need_a_reader_of_everything(client, make):
    for grant, status in (("reader:*", 200), ("editor:local.*.*", 403), ("appender:*", 403)):
        token = make(f"k{status}{grant[:3]}", grant)
        assert client.get("/metrics", headers=bearer(token)).status_code == status


def test_keys_are_administered_over_http_and_hold_at_once(client, make):
    boss = bearer(make("boss", "admin:*"))
    grants = [{"role": "appender", "resource": "ops.builds"}]
    made = client.post("/api/v1/keys", json={"name": "ci", "grants": grants}, headers=boss)
    assert (made.status_code, made.headers["cache-control"]) == (201, "no-store")
    token = made.json()["token"]
    assert post_events(client, token).status_code == 200
    listed = client.get("/api/v1/keys", headers=boss)
    assert [key["name"] for key in listed.json()["keys"]] == ["boss", "ci"]
    assert token not in listed.text
    assert client.delete("/api/v1/keys/ci", headers=boss).json()["key"]["state"] == "revoked"
    assert post_events(client, token).status_code == 401
    assert client.delete("/api/v1/keys/ci", headers=boss).status_code == 400


def test_the_first_key_may_be_made_by_anybody_on_the_machine(client):
    wish = {"name": "boss", "grants": [{"role": "admin", "resource": "*"}]}
    made = client.post("/api/v1/keys", json=wish).json()
    assert made["is_first"]
    assert client.get(TABLES).status_code == 401
    assert client.get(TABLES, headers=bearer(made["token"])).status_code == 200


def test_a_key_cannot_make_itself_greater(client, make):
    for name, grant in (("a", "editor:*"), ("b", "admin:ops.*"), ("c", "admin:local.*.*")):
        token = bearer(make(name, grant))
        wish = {"name": "greater", "grants": [{"role": "reader", "resource": "*"}]}
        assert client.post("/api/v1/keys", json=wish, headers=token).status_code == 403


def test_a_refusal_says_what_was_asked_for_and_who_could(client, make):
    token = make("ci", "reader:ops.builds")
    document = post_events(client, token).json()
    assert document["action"] == "append"
    assert document["resource"] == "local.ops.builds"
    assert document["role"] == "appender"
    assert "'ci' may not append to the table local.ops.builds" in document["detail"]
