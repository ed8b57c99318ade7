from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from proto_compiler import LoadedCompiler, start_compiler

from eventmill.base.errors import SchemaError
from eventmill.schema.compile import SHIPPED_PROTOS, compile_protos
from eventmill.schema.message_type import MessageType


@pytest.fixture(autouse=True)
def _as_the_product_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("eventmill.schema.compile._protoc", start_compiler)


def write(folder: Path, name: str, body: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'syntax = "proto3";\n{body}', encoding="utf-8")
    return str(path)


def names(descriptor_set: bytes) -> list[str]:
    return [file.name for file in FileDescriptorSet.FromString(descriptor_set).file]


@pytest.mark.parametrize(
    "body", ["message A { int32 x = 1; }", "message A { Gone x = 1; }", "\xe9"]
)
def test_the_compiler_of_all_other_tests_answers_as_this_one(tmp_path: Path, body: str):
    path = write(tmp_path, "a.proto", body)
    answers = []
    loaded = LoadedCompiler()
    for run in (start_compiler, loaded.run):
        out = tmp_path / "set"
        out.unlink(missing_ok=True)
        answer = run([f"--proto_path={tmp_path}", f"--descriptor_set_out={out}", path])
        made = out.read_bytes() if out.exists() else None
        answers.append((answer.returncode, answer.stdout, answer.stderr, made))
    loaded.close()
    assert answers[0] == answers[1]
    assert (answers[0][0] == 0) == (body.count("int32") == 1)


def test_imports_stand_before_their_importers_with_comments(tmp_path: Path):
    write(tmp_path, "b.proto", "// Says B.\nmessage B { int32 x = 1; }")
    write(tmp_path, "a.proto", 'import "b.proto"; message A { B b = 1; }')
    descriptor_set = compile_protos([str(tmp_path / "a.proto")])
    assert names(descriptor_set) == ["b.proto", "a.proto"]
    locations = FileDescriptorSet.FromString(descriptor_set).file[0].source_code_info.location
    assert " Says B.\n" in [location.leading_comments for location in locations]


def test_imports_are_found_in_given_folders_and_among_bundled_and_shipped_files(tmp_path: Path):
    pytest.importorskip("google.type.date_pb2")
    write(tmp_path, "lib/deep/c.proto", "message C { int32 x = 1; }")
    write(
        tmp_path,
        "a.proto",
        """
        import "deep/c.proto";
        import "google/protobuf/timestamp.proto";
        import "google/type/date.proto";
        import "eventmill/options.proto";
        import "bqschema/options.proto";
        message A { C c = 1; google.protobuf.Timestamp at = 2; google.type.Date day = 3; }
        """,
    )
    descriptor_set = compile_protos([str(tmp_path / "a.proto")], [str(tmp_path / "lib")])
    assert MessageType.load(descriptor_set, "A").descriptor.fields_by_name["day"] is not None


def test_a_file_below_an_import_folder_has_the_name_that_its_importers_use(tmp_path: Path):
    write(tmp_path, "p/b.proto", "message B { int32 x = 1; }")
    write(tmp_path, "p/a.proto", 'import "p/b.proto"; message A { B b = 1; }')
    files = [str(tmp_path / "p" / name) for name in ("a.proto", "b.proto")]
    assert names(compile_protos(files, [str(tmp_path)])) == ["p/b.proto", "p/a.proto"]


def test_files_with_spaces_and_relative_paths_compile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path, "my files/a b.proto", "message A { int32 x = 1; }")
    monkeypatch.chdir(tmp_path)
    assert names(compile_protos(["my files/a b.proto"])) == ["a b.proto"]


def test_a_fault_is_told_with_file_line_and_column_and_nothing_is_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path = write(tmp_path, "a.proto", "message A { int32 x = 1; nonsense y = 2; string z = 1; }")
    with pytest.raises(SchemaError) as caught:
        compile_protos([path])
    message = str(caught.value)
    assert "correct the file" in message
    assert "a.proto:2:26:" in message
    assert "nonsense" in message
    assert "absl" not in message
    assert capfd.readouterr() == ("", "")


def test_a_missing_import_says_which_and_what_to_give(tmp_path: Path):
    path = write(tmp_path, "a.proto", 'import "gone/x.proto"; message A { int32 x = 1; }')
    with pytest.raises(SchemaError, match=r"(?s)give the folder.* with -I.*gone/x\.proto"):
        compile_protos([path])


@pytest.mark.parametrize(
    ("files", "folders", "text"),
    [
        ([], [], "no .proto file"),
        (["/nowhere/a.proto"], [], "there is no file /nowhere/a.proto"),
        ([f"{SHIPPED_PROTOS}/eventmill/options.proto"], ["/nowhere"], "no import folder /nowhere"),
    ],
)
def test_missing_files_and_folders_are_named(files: list[str], folders: list[str], text: str):
    with pytest.raises(SchemaError, match=text):
        compile_protos(files, folders)


@pytest.mark.parametrize("content", [b"\x7fELF\x00\x01", "message A {}".encode("utf-16")])
def test_what_is_no_text_is_told_in_one_line(tmp_path: Path, content: bytes):
    path = tmp_path / "a.proto"
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=r"^[^\n]*a\.proto is no text in UTF-8[^\n]*$"):
        compile_protos([str(path)])


def test_of_very_many_faults_the_first_are_shown_and_the_rest_counted(tmp_path: Path):
    body = "\n".join(f"message M{n} {{ int32 x = 0; }}" for n in range(50))
    with pytest.raises(SchemaError) as raised:
        compile_protos([write(tmp_path, "a.proto", body)])
    lines = str(raised.value).splitlines()
    assert lines[-1] == "and 80 lines more like these"  # two for each message
    assert len(lines) == 22


def test_every_shipped_file_compiles():
    shipped = sorted(str(path) for path in Path(SHIPPED_PROTOS).rglob("*.proto"))
    assert len(names(compile_protos(shipped))) >= len(shipped) >= 2
