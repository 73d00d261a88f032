"""Broken and damaged sources are quarantined with a message that says what to do, or read correctly.

`SEQZARR_FUZZ_EXAMPLES=100000 python -m pytest tests/builder/formats/test_broken_sources.py` damages more sources.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import store_spec
from builder import Report, SourceError, build
from builder.formats import files
from builder.sources.source_list import discover
from tests.builder import broken_sources
from tests.builder.broken_sources import GOOD, SNAPSHOT, Source, groups, messages, processes, write
from tests.builder.command import python
from tests.builder.fuzzed_sources import ENDS, FORMATS, check, fuzz, read, valid_files
from tests.store.oracle import files as files_of


@dataclass(frozen=True, slots=True)
class Built:
    """A store of good and bad sources, and one of the good sources alone."""

    sources: list[Source]
    report: Report
    store: Path
    good_store: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Built]:
    folder = tmp_path_factory.mktemp("broken")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "UNPACKED_FREELY", broken_sources.UNPACKED_FREELY)
        for group, sources in groups().items():
            all_of_them, good = write(folder / group, sources), write(folder / f"{group}, good", readable(sources))
            stores = folder / f"{group}.zarr", folder / f"{group}, good.zarr"
            report, _ = (
                build(path, store, process=processes()[group], workers=0)
                for path, store in zip((all_of_them, good), stores, strict=True)
            )
            found[group] = Built(sources, report, *stores)
    return found


def readable(sources: list[Source]) -> list[Source]:
    return [source for source in sources if source.rows is not None]


@pytest.mark.parametrize("group", processes())
def test_other_sources_are_read_bit_for_bit(built, group):
    store = store_spec.open_store(built[group].store)
    sources = sorted(readable(built[group].sources), key=lambda source: source.name)
    assert [(one.source, one.reason) for one in built[group].report.skipped] == [
        (source.name, "has no rows") for source in sources if not source.rows
    ]
    sources = [source for source in sources if source.rows]
    assert list(store.sources) == [source.name for source in sources]
    for (inputs, _), source in zip(store, sources, strict=True):
        expected = np.array(source.rows, inputs.dtype).reshape(-1, inputs.shape[1])
        assert inputs.tobytes() == expected.tobytes(), source.name


@pytest.mark.parametrize("group", processes())
def test_a_store_equals_that_without_the_broken_sources(built, group):
    """Every byte of it, apart from the list of failures and the digest of the document that holds it."""
    with_bad, without = files_of(built[group].store), files_of(built[group].good_store)
    roots = [json.loads(found.pop("zarr.json")) for found in (with_bad, without)]
    assert with_bad == without
    for root in roots:
        own = root["attributes"]["seqzarr"][0]
        own.pop("digest")
        own["provenance"].pop("failures", None)
    assert roots[0] == roots[1]


def test_messages_are_those_that_were_reviewed(built):
    """After an improvement, run python -m tests.builder.broken_sources, and read the difference."""
    failures = {group: {each.source: each.reason for each in one.report.failures} for group, one in built.items()}
    assert messages(failures) == SNAPSHOT.read_text(encoding="utf-8")


def test_messages_are_short_and_name_no_place_on_this_machine(built, tmp_path_factory):
    for one in built.values():
        for failure in one.report.failures:
            assert len(failure.reason) < 500, failure
            assert str(tmp_path_factory.getbasetemp()) not in failure.reason
            assert "Traceback" not in failure.reason


def test_a_file_without_permission_is_reported(tmp_path):
    """Root may read it all the same; then its rows are right."""
    write(tmp_path / "src", [Source("0 good.csv", b"a,b\n1,2\n"), Source("no right.csv", b"a,b\n1,2\n3,4\n")])
    (tmp_path / "src/no right.csv").chmod(0)
    report = build(tmp_path / "src", tmp_path / "store", workers=0)
    if os.access(tmp_path / "src/no right.csv", os.R_OK):
        assert not report.failures
        assert store_spec.open_store(tmp_path / "store")[1][0].tolist() == GOOD
    else:
        assert [failure.source for failure in report.failures] == ["no right.csv"]
        assert "Permission denied" in report.failures[0].reason


def test_errors_of_the_system_do_not_contain_the_path(tmp_path):
    error = PermissionError(13, f"Failed to open {tmp_path}", str(tmp_path))
    assert str(files.unreadable_file(error)) == (
        "cannot be read: Permission denied: give this user permission to read it, and to enter its folders"
    )


def test_a_pipe_is_ignored_and_does_not_block(tmp_path):
    write(tmp_path / "src", [Source("0 good.csv", b"a,b\n1,2\n")])
    os.mkfifo(tmp_path / "src/pipe.csv")
    found = discover(tmp_path / "src")
    assert (found.names, found.ignored) == (("0 good.csv",), ("pipe.csv",))
    assert discover(str(tmp_path / "src/*.csv")).ignored == ("pipe.csv",)
    assert build(tmp_path / "src", tmp_path / "store", workers=0).added == 1
    for opened in (files.check_file, lambda path: files.first_bytes(path, 9)):
        with pytest.raises(SourceError, match="is not a file but a pipe"):
            opened(tmp_path / "src/pipe.csv")


MEMORY = 4 * 2**30
BOMBS = """
import gzip, io, json, resource, struct, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from builder import build
from tests.builder.broken_sources import *

folder = Path(sys.argv[1])
row_text, blank_lines, zeros = b"0,0\\n" * 2**22, b"\\n" * 2**24, pa.table({"a": np.zeros(2**20), "b": np.zeros(2**20)})
member, frame = gzip.compress(row_text, mtime=0), zstd(blank_lines)
packed = arrow_bytes(pa.table({"a": np.zeros(9), "b": np.zeros(9)}), compression="zstd")
groups = io.BytesIO()
with pq.ParquetWriter(groups, zeros.schema) as writer:
    for _ in range(40):
        writer.write_table(zeros)
write(folder / "src", [
    Source("0 good.csv", b"a,b\\n1,2\\n3,4\\n"),
    Source("bomb.csv.gz", gzip.compress(b"a,b\\n", mtime=0) + member * 150),
    Source("bomb.csv.zst", zstd(b"a,b\\n1,2\\n3,4\\n") + frame * 300),
    Source("bomb.parquet", groups.getvalue()),
    Source("bomb.npz", inflated(2**28 - 1000)),
    Source("bomb.arrow", packed.replace(struct.pack("<q", 72), struct.pack("<q", 2**42))),
    Source("nothing.arrow", arrow_bytes(pa.table({"a": pa.nulls(2**29), "b": pa.nulls(2**29)}))),
    Source("promise.npy", npy_file(described("(1152921504606846976,)"), bytes(64))),
    Source("columns.npy", npy_file(described("(0, 1152921504606846976)"))),
    Source("lists.parquet", parquet_bytes(pa.table({"a": [1.0], "b": [[0] * 2**21]}))),
])
del row_text, blank_lines, member, frame, zeros, groups
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]),) * 2)
report = build(folder / "src", folder / "store", workers=0)
print(json.dumps({failure.source: failure.reason for failure in report.failures}))
"""


@pytest.mark.slow
def test_bombs_do_not_fill_the_memory(tmp_path):
    """Files that unpack to more than 4 GiB, or claim to, are refused in a process with less memory."""
    done = python("-c", BOMBS, tmp_path, MEMORY)
    assert done.returncode == 0, done.stderr
    reasons = json.loads(done.stdout)
    assert len(reasons) == 9
    assert {name for name, reason in reasons.items() if "unpack to more than 268,435,456" in reason} == {
        *("bomb.csv.gz", "bomb.csv.zst", "bomb.parquet", "bomb.npz", "nothing.arrow"),
    }
    assert "it needs more memory than there is" in reasons["bomb.arrow"]
    assert "makes 9,223,372,036,854,775,894 bytes, but there are 150" in reasons["promise.npy"]
    assert "columns, but at most 1,048,576 are read" in reasons["columns.npy"]
    assert "columns, but at most 1,048,576 are read" in reasons["lists.parquet"]


EXAMPLES = int(os.environ.get("SEQZARR_FUZZ_EXAMPLES", "150"))


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_damaged_sources_are_refused_or_read_like_other_readers(format):  # noqa: A002
    outcomes = fuzz(format, EXAMPLES, seed=0)
    assert outcomes.refused > 0
    assert outcomes.read > 0 or format in {"npz", "csv.xz"}  # these have checksums


@pytest.mark.parametrize("format", FORMATS)
def test_undamaged_files_are_read(tmp_path, format):  # noqa: A002
    path = tmp_path / f"x.{format}"
    for whole in valid_files()[format]:
        path.write_bytes(whole)
        rows = read(path)
        assert rows is not None
        check(format, whole, rows)


@pytest.mark.slow
@pytest.mark.parametrize("format", sorted(ENDS))
def test_truncated_sources_are_refused_if_their_format_marks_the_end(tmp_path, format):  # noqa: A002
    path = tmp_path / f"x.{format}"
    for whole in valid_files()[format]:
        path.write_bytes(whole)
        ends = {len(whole)}
        for end in range(0, len(whole), max(1, len(whole) // 60)):
            ends.update({end, len(whole) - 1 - end})
        for end in sorted(ends - {len(whole)}):
            path.write_bytes(whole[:end])
            assert read(path) is None, end
