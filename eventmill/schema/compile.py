"""From .proto files to a descriptor set, without a system ``protoc`` and without generated code.

The compiler runs as a child process: it writes its complaints straight to file descriptor 2,
and in a child they can be caught and made part of the error.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

from eventmill.base.errors import SchemaError
from eventmill.schema.rules import RULES_PROTO, rules_proto_set

SHIPPED_PROTOS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "protos")
"""Folder of the .proto files that come with this package; always among the import folders."""

# Warnings, and what the compiler's logging library says of itself.
_NOISE = re.compile(r": warning:|^WARNING: All log messages|^[IW]\d{4} ")
_COMPLAINTS_MAX = 20
"""Lines of the compiler's that are shown: nobody mends more than these in one go."""


def compile_protos(files: Sequence[str], import_dirs: Sequence[str] = ()) -> bytes:
    """Compile .proto files to one descriptor set.

    On return the set holds the files and everything that they import, imports before importers,
    with comments (source info) and options as written.

    Args:
        files: paths of at least one .proto file; one that ships with this package goes by its
            name below ``SHIPPED_PROTOS``, such as ``eventmill/log_record.proto``.
        import_dirs: folders in which imports are looked for, besides the folders of the files.
            A file below one of them is known by its path from there, as its importers name it.
            After these, imports are looked for among protobuf's own (``google/protobuf``), in
            an installed googleapis-common-protos (``google/type``, ``google/api``), and in
            ``SHIPPED_PROTOS``. ``buf/validate/validate.proto`` needs no folder; where one has
            it, that one is taken.

    Returns:
        A serialized ``google.protobuf.FileDescriptorSet``.

    Raises:
        SchemaError: a file or folder is missing, or does not compile; the message has the
            compiler's own lines, ``file:line:column: reason``, and what to do.
    """
    if not files:
        raise SchemaError("no .proto file is given: name at least one")
    files = [_given_or_shipped(file) for file in files]
    for file in files:
        if not os.path.isfile(file):
            raise SchemaError(f"there is no file {file}: give the path of a .proto file")
    for folder in import_dirs:
        if not os.path.isdir(folder):
            raise SchemaError(f"there is no import folder {folder}: give an existing folder")
    paths = [os.path.abspath(file) for file in files]
    _check_text(paths)
    roots = list(dict.fromkeys(_roots(paths, [os.path.abspath(d) for d in import_dirs])))
    with tempfile.TemporaryDirectory(prefix="eventmill-protoc-") as folder:
        out = os.path.join(folder, "set")
        command = [f"--proto_path={root}" for root in roots]
        command += ["--include_imports", "--include_source_info", f"--descriptor_set_out={out}"]
        # The compiler reads its own command line for names with a leading @ as argument files;
        # absolute paths never have one.
        command += paths
        run = _protoc(command)
        # Only the compiler knows what the imports import, so it is asked without the rules first.
        if run.returncode and f"{RULES_PROTO}: File not found" in run.stderr:
            known = os.path.join(folder, "rules")
            with open(known, "wb") as rules_set:
                rules_set.write(rules_proto_set())
            run = _protoc([f"--descriptor_set_in={known}", *command])
        if run.returncode:
            raise SchemaError(_complaint(run.stderr, paths))
        with open(out, "rb") as file_set:
            return file_set.read()


def _given_or_shipped(file: str) -> str:
    shipped = os.path.join(SHIPPED_PROTOS, file)
    return shipped if not os.path.exists(file) and os.path.isfile(shipped) else file


def _protoc(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _roots(paths: Sequence[str], import_dirs: Sequence[str]) -> Iterator[str]:
    """Yield the folders of imports, the first match of which names a file."""

    def is_imported(path: str) -> bool:
        return any(path.startswith(os.path.join(root, "")) for root in import_dirs)

    beside = [(path, os.path.dirname(path)) for path in paths]
    shipped = [os.path.join(SHIPPED_PROTOS, "")]
    yield from (
        folder
        for path, folder in beside
        if not is_imported(path) and not path.startswith(shipped[0])
    )
    yield from import_dirs
    yield from (folder for path, folder in beside if is_imported(path))
    spec = importlib.util.find_spec("grpc_tools")
    if spec is None or not spec.submodule_search_locations:
        raise SchemaError(
            "compiling .proto files needs grpcio-tools: pip install 'eventmill[server]'"
        )
    yield os.path.join(next(iter(spec.submodule_search_locations)), "_proto")
    yield from _googleapis()
    yield SHIPPED_PROTOS


def _googleapis() -> Iterator[str]:
    """Yield the folder above ``google/type`` where googleapis-common-protos is installed."""
    spec = importlib.util.find_spec("google")
    for location in (spec.submodule_search_locations if spec else None) or ():
        if os.path.isfile(os.path.join(location, "type", "date.proto")):
            yield os.path.dirname(location)
            return


def _complaint(stderr: str, paths: Sequence[str]) -> str:
    lines = [line for line in stderr.splitlines() if line.strip() and not _NOISE.search(line)]
    names = ", ".join(os.path.basename(path) for path in paths)
    if any("File not found" in line for line in lines):
        advice = "give the folder that holds the missing import with -I (import_dirs)"
    else:
        advice = "correct the file and compile it again"
    more = len(lines) - _COMPLAINTS_MAX
    if more > 0:
        lines[_COMPLAINTS_MAX:] = [f"and {more} lines more like these"]
    return "\n".join([f"{names}: the .proto does not compile; {advice}", *lines])


def _check_text(paths: Sequence[str]) -> None:
    """Raise SchemaError for what is no text: of it the compiler says a hundred odd things."""
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                is_text = "\0" not in file.read()
        except UnicodeDecodeError:
            is_text = False
        except OSError as error:
            raise SchemaError(f"{path} cannot be read: {error.strerror}") from error
        if not is_text:
            raise SchemaError(
                f"{path} is no text in UTF-8: give a .proto file, not a compiled one, and save it"
                " as UTF-8"
            )
