"""Generated code is imported by a fresh interpreter, as its user's program would."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import google.protobuf
import pytest
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from store_world import builds_spec

from eventmill.base.errors import SchemaError, UsageError
from eventmill.schema.compile import compile_protos
from eventmill.schema.generate import (
    OTHER_LANGUAGES,
    generate_python,
    needed_files,
    protoc_command,
    python_name,
    runtime_needed,
    write_descriptor_set,
)
from eventmill.schema.message_type import MessageType

RULES = """syntax = "proto2"; package buf.validate; import "google/protobuf/descriptor.proto";
message Rules { optional int32 gte = 1; }
extend google.protobuf.FieldOptions { optional Rules field = 1159; }"""
SHOP = {
    "buf/validate/validate.proto": RULES,
    "shop/money-types.proto": """syntax = "proto3"; package shop;
        message Price { int64 cents = 1; enum Unit { EUR = 0; USD = 1; } Unit unit = 2; }""",
    "shop/day.proto": """syntax = "proto3"; package shop;
        import public "shop/money-types.proto"; import "google/type/date.proto";
        message Day { google.type.Date date = 1; }""",
    "shop/sale.proto": """syntax = "proto3"; package shop; import "shop/day.proto";
        import "eventmill/options.proto"; import "bqschema/options.proto";
        import "buf/validate/validate.proto"; import "google/protobuf/timestamp.proto";
        message Sale {
          option (eventmill.table) = { id: "shop.sales" };
          message Line { string from = 1; }
          Price price = 1;
          Day day = 2;
          int64 pieces = 3 [(buf.validate.field).gte = 1];
          Sale replaces = 4 [(bqschema.options).bq_type = "JSON"];
          google.protobuf.Timestamp sold_at = 5;
          map<string, Line> lines = 6;
        }""",
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> bytes:
    return compiled(tmp_path_factory.mktemp("protos"), SHOP, "shop/sale.proto")


def compiled(root: Path, files: dict[str, str], main: str) -> bytes:
    for name, body in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)
    return compile_protos([str(root / main)], [str(root)])


def run(script: str, *folders: Path | str) -> str:
    """Run ``script`` where only ``folders`` are on the path besides Python's own library."""
    head = f"import sys; sys.path += {[str(folder) for folder in folders]!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", head + script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def with_protobuf_alone(folder: Path) -> Path:
    """Return a folder that has the protobuf package and no other one of this environment."""
    site = folder / "site"
    installed = Path(google.protobuf.__file__).parents[1]
    (site / "google").mkdir(parents=True)
    for name in ("protobuf", "_upb"):
        (site / "google" / name).symlink_to(installed / name)
    return site


ROUND_TRIP = """
from shop.sale_pb2 import Sale
import datetime
sale = Sale(price={"cents": 5, "unit": "USD"}, day={"date": {"year": 2026}}, pieces=2,
    sold_at=datetime.datetime(2026, 1, 2), lines={"a": {}})
assert Sale.FromString(sale.SerializeToString()) == sale
print(sale.SerializeToString(deterministic=True).hex())
"""


def test_the_code_works_in_a_fresh_interpreter_with_protobuf_alone(shop, tmp_path):
    made = generate_python(shop, "shop.Sale", str(tmp_path / "out"))
    modules = ["shop/money_types", "google/type/date", "shop/day", "shop/sale"]
    assert sorted(made) == sorted(f"{m}_pb2{end}" for m in modules for end in (".py", ".pyi"))
    assert made[-1] == "shop/sale_pb2.py"
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in found) == sorted(made)
    event = bytes.fromhex(run(ROUND_TRIP, tmp_path / "out", with_protobuf_alone(tmp_path)))
    sale = MessageType.load(shop, "shop.Sale").parse(event)
    assert (sale.price.unit, sale.day.date.year, sale.pieces) == (1, 2026, 2)
    assert (tmp_path / "out/shop/sale_pb2.pyi").read_text().count("class Sale(") == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_the_code_is_of_the_tables_type_beside_all_that_is_installed(shop, tmp_path, is_first):
    generate_python(shop, "shop.Sale", str(tmp_path))
    installed = [folder for folder in sys.path if folder]
    script = (
        "import eventmill.schema.options, google.type.date_pb2\nfrom shop.sale_pb2 import Sale\n"
        "from eventmill.schema.message_type import MessageType\n"
        "from eventmill.schema.mapping import columns_of\n"
        "mine = MessageType.of(Sale)\n"
        "print(mine.fingerprint, *(f'{c.name}:{c.type}' for c in columns_of(mine)))"
    )
    folders = [str(tmp_path), *installed] if is_first else [*installed, str(tmp_path)]
    fingerprint, *columns = run(script, *folders).split()
    assert fingerprint == MessageType.load(shop, "shop.Sale").fingerprint
    # The options are still there, though nothing of their files was generated.
    assert "replaces:JSON" in columns


def test_an_uploader_puts_messages_of_the_generated_class(tmp_path):
    spec = builds_spec()
    generate_python(spec.descriptor_set, spec.message, str(tmp_path))
    script = f"""
from builds_pb2 import Build, SUCCESS
import eventmill
from eventmill.schema.table import TableId
from store_world import builds_spec
store = eventmill.open_store({str(tmp_path / "data")!r}, create=True)
store.apply(builds_spec(), expected_version=0)
verdict = eventmill.Uploader(store, "ci.builds").put(Build(number=7, status=SUCCESS))
(row,) = store.query("SELECT number, status FROM ci.builds", row_limit=None)
print(verdict.accepted, row["number"], row["status"])
store.close()
"""
    assert run(script, tmp_path, *filter(None, sys.path)) == "1 7 SUCCESS"


def test_compiled_files_are_replaced_and_no_others(shop, tmp_path):
    out = str(tmp_path)
    made = generate_python(shop, "shop.Sale", out)
    before = (tmp_path / made[-1]).read_bytes()
    (tmp_path / made[-1]).write_bytes(before.replace(b"pieces", b"xxxxxx"))
    assert generate_python(shop, "shop.Sale", out) == made
    assert (tmp_path / made[-1]).read_bytes() == before
    (tmp_path / made[-1]).write_text("mine = 1\n")
    (tmp_path / made[0]).unlink()
    with pytest.raises(UsageError, match=r"sale_pb2\.py: not made by the protocol .*--force"):
        generate_python(shop, "shop.Sale", out)
    assert (tmp_path / made[-1]).read_text() == "mine = 1\n"
    assert not (tmp_path / made[0]).exists()
    generate_python(shop, "shop.Sale", out, force=True)
    assert (tmp_path / made[-1]).read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(shop, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written to .*file.*give another folder"):
        generate_python(shop, "shop.Sale", str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("--python_out=/x.proto", "of the name '--python_out"),
        ("@arguments", "of the name '@arguments'"),
        ("../up.proto", "of the name '../up"),
        ("a/../../up.proto", "of the name"),
        ("/root.proto", "of the name '/root"),
        ("a'.proto", "of the name"),
        ("a\nimport os.proto", "of the name"),
        ("logging/x.proto", "would be logging, and Python's own library"),
        ("eventmill/x.proto", "would be eventmill, and Eventmill"),
    ],
)
def test_a_file_name_that_is_more_than_a_name_is_refused(name, text, tmp_path):
    files = FileDescriptorSet()
    files.file.add(name=name, package="t", syntax="proto3").message_type.add(name="M")
    with pytest.raises(SchemaError, match=text.replace(".", r"\.")):
        generate_python(files.SerializeToString(), "t.M", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_message_that_is_not_there_is_said(shop, tmp_path):
    with pytest.raises(SchemaError, match=r"no message 'shop.Sail'.*shop\.Sale"):
        generate_python(shop, "shop.Sail", str(tmp_path))


@pytest.mark.parametrize(
    ("file", "message", "code"),
    [
        ("a/b-c.proto", "M", "from a.b_c_pb2 import M"),
        ("a.proto", "M.N", "from a_pb2 import M"),
        ("class/a.proto", "M", "M = importlib.import_module('class.a_pb2').M"),
        ("my file.proto", "M", "M = importlib.import_module('my file_pb2').M"),
        ("v1.2.proto", "M", "M = importlib.import_module('v1.2_pb2').M"),
    ],
)
def test_what_to_import_is_what_was_written(file, message, code, tmp_path):
    body = 'syntax = "proto3"; message M { int32 x = 1; message N { int32 y = 1; } }'
    descriptor_set = compiled(tmp_path / "protos", {file: body}, file)
    generate_python(descriptor_set, message, str(tmp_path / "out"))
    name = python_name(descriptor_set, message)
    assert name.import_code.endswith(code)
    script = f"{name.import_code}\nprint({name.qualified_name}.DESCRIPTOR.full_name)"
    assert run(script, tmp_path / "out", with_protobuf_alone(tmp_path)) == message


def test_the_version_needed_is_no_newer_than_the_one_installed(shop, tmp_path):
    made = generate_python(shop, "shop.Sale", str(tmp_path))
    needed = runtime_needed(str(tmp_path / made[-1]))
    installed = google.protobuf.__version__
    assert [int(n) for n in needed.split(".")] <= [int(n) for n in installed.split(".")]
    (tmp_path / "none.py").write_text("")
    assert runtime_needed(str(tmp_path / "none.py")) is None


def test_files_that_only_options_need_are_left_out(shop):
    names = [file.name for file in needed_files(shop, "shop.Sale").file]
    assert names[-1] == "shop/sale.proto"
    assert set(names) == {
        *("shop/money-types.proto", "google/type/date.proto", "shop/day.proto"),
        *("google/protobuf/timestamp.proto", "shop/sale.proto"),
    }


@pytest.mark.parametrize("language", OTHER_LANGUAGES)
def test_the_printed_command_hands_the_files_to_the_languages_plugin(shop, tmp_path, language):
    """The bundled compiler runs it, with plugins that keep what they are given."""
    out = tmp_path / "my code"
    written = write_descriptor_set(shop, "shop.Sale", str(out))
    assert written == "shop.Sale.binpb"
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    plugins = [f"protoc-gen-{word[2:].split('_')[0]}" for word in OTHER_LANGUAGES[language]]
    scripts = {"protoc": f'exec {shlex.quote(sys.executable)} -m grpc_tools.protoc "$@"\n'}
    scripts |= dict.fromkeys(plugins, f"cat > {shlex.quote(str(tmp_path / 'request'))}\n")
    for name, script in scripts.items():
        (bin_dir / name).write_text(f"#!/bin/sh\n{script}")
        (bin_dir / name).chmod(0o755)
    command = protoc_command(shop, "shop.Sale", language, str(out))
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command], env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    request = CodeGeneratorRequest.FromString((tmp_path / "request").read_bytes())
    asked = set(request.file_to_generate)
    own = {"shop/money-types.proto", "shop/day.proto", "shop/sale.proto"}
    assert asked == (own if language == "go" else own | {"google/type/date.proto"})
    if language == "go":
        assert "Mshop/sale.proto=example.com/events/shop" in request.parameter


def test_a_language_without_a_command_and_a_file_in_the_way_are_said(shop, tmp_path):
    with pytest.raises(UsageError, match=r"'cobol': use one of cpp, .*swift"):
        protoc_command(shop, "shop.Sale", "cobol", ".")
    (tmp_path / "shop.Sale.binpb").write_text("notes")
    with pytest.raises(UsageError, match="not made by the protocol buffer compiler"):
        write_descriptor_set(shop, "shop.Sale", str(tmp_path))
