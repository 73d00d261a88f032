"""Process functions that ask for an open file by the annotation of their first parameter."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import obstore
import pytest

import builder
import store_spec
from builder.processes.function_process import asks_for_file
from tests.store.cloud_servers import s3_bucket

OPENED: list[IO[bytes]] = []


def whole(file: BinaryIO) -> Any:
    """Return the rows of a file, which is read twice, and their sums."""
    OPENED.append(file)
    assert file.read(6) == b"\x93NUMPY"
    file.seek(0)
    rows = np.load(file)
    return rows, rows.sum(axis=1)


def parts(file: IO[bytes], size: int = 4) -> Iterator[Any]:
    """Yield a LongSequence whose pieces are read when they are requested."""
    OPENED.append(file)
    np.lib.format.read_magic(file)
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    row = shape[1] * dtype.itemsize
    pieces = (np.frombuffer(data, dtype).reshape(-1, shape[1]) for data in iter(lambda: file.read(row * size), b""))
    yield builder.LongSequence((rows, rows.sum(axis=1)) for rows in pieces)


class Reader:
    def __call__(self, file: typing.BinaryIO) -> Any:
        return whole(file)

    def alone(self, file: IO[bytes]) -> Any:
        return np.load(file)


def by_path(path: Path, file: BinaryIO | None = None) -> Any:
    assert file is None
    rows = np.load(path)
    return rows, rows.sum(axis=1)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Return the same sources in a folder and in a bucket."""
    folder = tmp_path_factory.mktemp("src")
    for number in range(5):
        np.save(folder / f"{number}.npy", np.random.default_rng(number).normal(size=(10 + number, 3)))
    with s3_bucket() as bucket:
        for path in folder.iterdir():
            obstore.put(obstore.store.from_url(f"{bucket}/src"), path.name, path)
        yield folder, f"{bucket}/src"


@pytest.mark.parametrize("where", [0, 1], ids=["folder", "bucket"])
@pytest.mark.parametrize(
    ("process", "options"),
    [
        (whole, {}),
        (parts, {}),
        (parts, {"arguments": {"size": 3}}),
        (Reader(), {}),
        (functools.partial(parts, size=2), {}),
        ("tests.builder.functions.test_functions_that_take_files:whole", {}),
        pytest.param(parts, {"workers": 1}, marks=pytest.mark.slow),
    ],
)
def test_a_function_that_asks_for_a_file_gives_the_rows_of_one_by_path(places, tmp_path, where, process, options):
    OPENED.clear()
    report = builder.build(places[where], tmp_path / "s.zarr", process=process, **({"workers": 0} | options))
    assert (report.added, report.failures) == (5, ())
    builder.build(places[0], tmp_path / "due.zarr", process=by_path, workers=0)
    made, due = (store_spec.open_store(tmp_path / name) for name in ("s.zarr", "due.zarr"))
    assert made.sources == due.sources
    for one, other in zip(made, due, strict=True):
        assert [array.tobytes() for array in one] == [array.tobytes() for array in other]
    assert all(file.closed for file in OPENED)
    assert len(OPENED) == (0 if options.get("workers") else 6)  # the first source is also probed


def test_a_file_is_closed_when_its_function_fails_and_errors_name_the_source(places, tmp_path):
    def text(file: BinaryIO) -> Any:
        OPENED.append(file)
        if Path(file.name).stem == "3":
            raise ValueError("three")
        return np.load(file), [["a", "b", 1][int(Path(file.name).stem) % 3]]

    OPENED.clear()
    report = builder.build(places[0], tmp_path / "s.zarr", process=text, classes="a,b", label_axis="own", workers=0)
    assert [str(failure).partition(";")[0] for failure in report.failures] == [
        "2.npy: labels: row 0: 1 is not text, but --classes names classes of text",
        f"3.npy: ValueError: three ({Path(__file__).name}, line {text.__code__.co_firstlineno + 3}, in text)",
    ]
    assert len(OPENED) == 6
    assert all(file.closed for file in OPENED)


@pytest.mark.parametrize("options", [{"sequence_from": r"(\d)\.npy"}, {}])
def test_a_function_that_asks_for_a_file_is_refused_for_sources_of_several_files(places, tmp_path, options):
    sources = places[0] if options else f"{places[0].parent}/*/"
    with pytest.raises(builder.UsageError, match="asks for an open file, but a source consists of several files; let"):
        builder.build(sources, tmp_path / "s.zarr", process=Reader().alone, workers=0, **options)
    assert not (tmp_path / "s.zarr").exists()


def test_only_the_first_parameter_counts_and_its_annotation_may_be_text():
    def unknown(path: NotImported, other: BinaryIO) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def quoted(file: "BinaryIO") -> None: ...  # noqa: UP037
    def evaluated(file: Any) -> None: ...

    others: list[Any] = [unknown, evaluated, by_path, np.load, lambda path: path, lambda: 1, print, dict]
    assert not any(asks_for_file(function) for function in others)
    those: list[Any] = [quoted, whole, parts, Reader(), Reader().alone]
    assert all(asks_for_file(function) for function in those)
    for annotation in (BinaryIO, IO[bytes]):
        evaluated.__annotations__["file"] = annotation
        assert asks_for_file(evaluated)
    evaluated.__annotations__["file"] = IO[str]
    assert not asks_for_file(evaluated)
