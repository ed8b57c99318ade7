"""docs/sql.md names every function that the embedded store knows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from eventmill.store.googlesql.functions import FUNCTIONS, INSTEAD

PAGE = (Path(__file__).parents[3] / "docs" / "sql.md").read_text(encoding="utf-8")
TABLE = PAGE[PAGE.index("## Functions") : PAGE.index("`SAFE.` may stand")]
NAMED = set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", TABLE))
# Words of the table that are no names of functions, and constructs that look like functions.
OTHERS = {"JSON", "HAVING", "DISTINCT", "IGNORE", "NULLS", "ORDER", "BY", "LIMIT", "OVER"}
CONSTRUCTS = {"ARRAY", "EXTRACT"}


def test_page_and_allow_list_name_the_same_functions():
    assert set(FUNCTIONS) == NAMED - OTHERS - CONSTRUCTS


def test_example_of_the_page_translates():
    from eventmill.store.googlesql import translate

    sql = re.search(r"```sql\n(.*?)```", PAGE, re.DOTALL)[1]
    assert translate(sql, {"step": "lint"}).time_bounds


@pytest.mark.parametrize("name", sorted(INSTEAD))
def test_advice_is_given_only_for_functions_that_are_missing(name):
    assert name not in FUNCTIONS
