"""A damaged source is refused with a reason, or read as other readers read it.

`SEQZARR_FUZZ_EXAMPLES=100000 python -m pytest tests/builder/formats/test_fuzzed_sources.py` runs more examples.
"""

from __future__ import annotations

import os

import pytest

from tests.builder.fuzzed_sources import ENDS, FORMATS, check, fuzz, read, valid_files

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
