"""What the store ships compiled is what its .proto files say."""

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from eventmill.schema.compile import compile_protos
from eventmill.store import own_tables, quarantine
from eventmill.store.own_protos import OWN_PROTOS, own_descriptor_set


@pytest.mark.parametrize("name", OWN_PROTOS)
def test_the_compiled_file_is_as_the_compiler_makes_it_now(name):
    shipped = FileDescriptorSet.FromString(own_descriptor_set(name))
    made = FileDescriptorSet.FromString(compile_protos([f"eventmill/{name}.proto"]))
    assert [file.name for file in shipped.file] == [file.name for file in made.file]
    # The last is the file itself; its imports are protobuf's own, and their comments change.
    same = shipped.file[-1] == made.file[-1]
    assert same, f"{name}.proto was changed: run `python scripts/write_own_protos.py`"


def test_the_own_tables_are_defined_without_starting_the_compiler(monkeypatch):
    def started(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr("subprocess.run", started)
    monkeypatch.setattr("subprocess.Popen", started)
    for spec in (quarantine.quarantine_spec.__wrapped__(), own_tables.audit_spec.__wrapped__()):
        assert spec.columns
        assert all(column.description for column in spec.columns)
