import os

import pytest

from eventmill.base.errors import UsageError
from eventmill.client.http_sink import HttpSink
from eventmill.wire.api_token import TOKEN_PATTERN, token_fault, token_of
from eventmill.wire.keys import GrantText, KeyFacts, KeyKind, KeyWish


@pytest.mark.parametrize(
    "secret", [b"\0" * 32, b"\xff" * 32, bytes(range(32))], ids=["zeros", "ones", "counting"]
)
def test_a_token_is_well_formed_and_found_by_scanners(secret):
    token = token_of(secret)
    assert token.startswith("em_")
    assert len(token) == 52
    assert token_fault(token) == ""
    for around in (f"key={token}&x", f'"{token}"', f"Bearer {token}\n"):
        assert TOKEN_PATTERN.search(around)[0] == token
    assert not TOKEN_PATTERN.search(f"x{token}")
    assert not TOKEN_PATTERN.search(f"{token}x")


def test_tokens_of_different_secrets_differ():
    assert len({token_of(number.to_bytes(32, "big")) for number in range(1000)}) == 1000
    with pytest.raises(ValueError, match="32 bytes"):
        token_of(b"short")


def test_every_wrong_letter_and_every_swap_is_noticed():
    token = token_of(os.urandom(32))
    for place in range(3, len(token)):
        for letter in "0aZ":
            typo = token[:place] + letter + token[place + 1 :]
            assert bool(token_fault(typo)) == (typo != token)
        swapped = token[: place - 1] + token[place] + token[place - 1] + token[place + 1 :]
        assert bool(token_fault(swapped)) == (swapped != token)


@pytest.mark.parametrize(
    ("text", "told"),
    [("xx_1", "begin with em_"), ("em_123", "52"), ("em_" + "-" * 49, "neither a letter")],
)
def test_a_fault_is_named_without_the_text(text, told):
    fault = token_fault(text)
    assert told in fault
    assert text not in fault


def test_a_mistyped_key_is_told_before_anything_is_sent():
    token = token_of(os.urandom(32))
    with pytest.raises(UsageError, match="was all of it copied") as raised:
        HttpSink("http://127.0.0.1:1", key=token[:-3])
    assert token[:-3] not in str(raised.value)
    HttpSink("http://127.0.0.1:1", key=token).close()
    HttpSink("http://127.0.0.1:1", key="of a proxy in between").close()


WISH = KeyWish(
    name="ci-1",
    grants=(GrantText("appender", "ops.builds"), GrantText("reader", "*", 1_800_000_000.25)),
    kind=KeyKind.SERVICE_ACCOUNT,
    owner="team@example.com",
    project="shop",
    expires_at=1_900_000_000.0,
    events_per_second=0.5,
    bytes_per_day=5,
    public_key="PEM",
    public_key_id="1f",
    token_uri="http://localhost/token",
)


def test_a_wish_crosses_the_hop_unchanged():
    assert KeyWish.from_json(WISH.to_json()) == WISH
    plain = KeyWish(name="a", grants=(GrantText("reader", "*"),))
    assert KeyWish.from_json(plain.to_json()) == plain
    assert KeyWish.from_json({**plain.to_json(), "expires_at": "2027-01-15T08:00:00Z"}) == KeyWish(
        name="a", grants=(GrantText("reader", "*"),), expires_at=1_800_000_000.0
    )


def test_facts_cross_the_hop_unchanged():
    facts = KeyFacts(
        name="a",
        kind="token",
        email="a@local.iam.eventmill.local",
        owner="",
        state="live",
        grants=WISH.grants,
        created_at=1.5,
        created_by="folder",
        last_used_at=2.25,
        bytes_per_day=7,
    )
    assert KeyFacts.from_json(facts.to_json()) == facts


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Big"}, "lower-case"),
        ({"name": "../x"}, "lower-case"),
        ({"name": "a" * 64}, "lower-case"),
        ({"name": 1}, "must be a text"),
        ({"grants": []}, "at least one"),
        ({"grants": ["reader:*"]}, "a grant is"),
        ({"grants": "x"}, "must be a list"),
        ({"kind": "password"}, "token or service_account"),
        ({"owner": "a\nb"}, "one line"),
        ({"project": "X"}, "project"),
        ({"events_per_second": 0}, "above 0"),
        ({"bytes_per_day": -1}, "above 0"),
        ({"bytes_per_day": True}, "must be a number"),
        ({"expires_at": "tomorrow"}, "not a moment"),
        ({"expires_at": "2027-01-15T08:00:00"}, "not a moment"),
        ({"admin": True}, "unknown in a key: admin"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_by_name(change, told):
    with pytest.raises(UsageError, match=told):
        KeyWish.from_json({**WISH.to_json(), **change})
    with pytest.raises(UsageError):
        KeyWish.from_json([])
