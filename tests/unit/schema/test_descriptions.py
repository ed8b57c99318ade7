from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proto_world import message_type

from eventmill.schema.descriptions import DESCRIPTION_BYTES_MAX, clean, cut, table_description
from eventmill.schema.mapping import columns_of

BODY = """
// Ignored, as it is detached.

// The message.
//   Indented.
message M {
  // One line.
  int32 a = 1;
  //   First,
  //     deeper,
  //   back.
  E e = 2;
  /* A block
   * of text. */
  In i = 3;
  E bare = 4;
  int32 none = 5; // Trailing comments are not taken.
  message In {
    // Below.
    int32 x = 1;
  }
}
enum E { A = 0; B = 1; ALSO_B = 1; option allow_alias = true; }
"""


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a", "One line."),
        ("e", "First,\n  deeper,\nback.\nValid values: A, B, ALSO_B."),
        ("i", "A block\nof text."),
        ("i.x", "Below."),
        ("bare", "Valid values: A, B, ALSO_B."),
        ("none", ""),
    ],
)
def test_a_column_is_described_by_its_comment_and_its_values(path: str, text: str):
    described = {
        path: column.description
        for one in columns_of(message_type(BODY))
        for path, column in one.walk()
    }
    lines = [line.strip() for line in described[path].splitlines()]
    if path == "i":
        assert lines == text.splitlines()
    else:
        assert described[path] == text


def test_a_table_is_described_by_its_message_and_file():
    assert table_description("Builds.", "a/b.proto") == "Builds.\nDefined in a/b.proto."
    assert table_description("", "a/b.proto") == "Defined in a/b.proto."


def test_whole_lines_are_kept_up_to_1010_bytes():
    exact = "x" * 1024
    assert cut(exact) == exact
    lines = ["a" * 500, "b" * 508, "c" * 100]
    assert cut("\n".join(lines)) == "a" * 500 + "\n" + "b" * 508 + "\n...(truncated)"
    lines = ["a" * 500, "b" * 509, "c" * 100]
    assert cut("\n".join(lines)) == "a" * 500 + "\n...(truncated)"


def test_a_first_line_that_is_too_long_is_cut_between_characters():
    text = cut("x" + "ä" * 1000)
    assert text == "x" + "ä" * 504 + "...(truncated)"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=3000))
def test_no_text_is_over_the_limit_or_loses_its_beginning(text: str):
    made = cut(text)
    assert len(made.encode()) <= DESCRIPTION_BYTES_MAX
    assert text.startswith(made.removesuffix("...(truncated)"))


def test_cleaning_takes_common_indentation_alone():
    assert clean("   a\n     b\n\n   c\n") == "a\n  b\n\nc"
