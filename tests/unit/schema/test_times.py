"""Texts of timestamps: the usual ones are read another way, and must be read alike."""

import random

import pytest

from eventmill.schema import times

USUAL = ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.123Z", "2026-01-31T12:00:00.123456Z")


def closely(text, monkeypatch):
    """Return what the text says to who looks at every part of it, or None."""
    with monkeypatch.context() as patch:
        patch.setattr(times, "_USUAL_LENGTHS", ())
        return read(text)


def read(text):
    try:
        return times.timestamp_parts_of_text(text)
    except ValueError:
        return None


@pytest.mark.parametrize("text", USUAL)
def test_the_usual_ones_are_read_quickly(text, monkeypatch):
    quick = times._usual_parts(text)
    assert quick is not None
    assert quick == closely(text, monkeypatch)


def test_what_is_read_quickly_is_read_alike_and_nothing_more_is_taken(monkeypatch):
    rng = random.Random(3)
    taken = refused = 0
    for _ in range(60_000):
        characters = list(rng.choice(USUAL))
        for _ in range(rng.randrange(4)):
            characters[rng.randrange(len(characters))] = rng.choice("0123456789-:.,TtWZz +٣")
        text = "".join(characters)
        assert read(text) == closely(text, monkeypatch), text
        taken += read(text) is not None
        refused += read(text) is None
    assert min(taken, refused) > 1000


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "1969-12-31T23:59:59.999Z",
        "2024-02-29T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T23:59:60Z",
        "2026-W01-1T12:00:00Z",
        "2026-01-31T12:00:00,123Z",
        "2026-01-31T12:00:00+01:0Z",
        "20260131T120000.00000Z",
        "2026-07-31T12:00.00Z",
    ],
)
def test_the_ends_of_the_calendar_and_other_forms_are_read_alike(text, monkeypatch):
    assert read(text) == closely(text, monkeypatch)
