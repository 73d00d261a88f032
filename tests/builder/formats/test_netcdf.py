"""NetCDF and HDF5 files are read as xarray reads them, bit for bit, and broken ones are refused with the reason."""

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray

from builder import SourceError, UsageError, tabular
from builder.formats import files, open_table
from builder.formats.table import Table, read_raw
from tests.builder.command import seqzarr
from tests.builder.source_files import build_files, refusal

ROWS = 50
SUFFIXES = [".nc", ".nc4", ".h5", ".hdf5"]
FILL = {"_FillValue": -1}
DTYPES = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "bool", ">i2", ">f8"]


def written(path: Path, variables: dict[str, Any], **encodings: dict[str, Any]) -> Path:
    xarray.Dataset(variables).to_netcdf(path, engine="h5netcdf", encoding=encodings)
    return path


def series(*values: Any) -> Any:
    return "time", np.array(values)


def every_kind(path: Path) -> Path:
    """Write times, packed numbers with gaps, and every dtype."""
    random = np.random.default_rng(0)
    times = np.datetime64("2024-01-31", "ns") + np.arange(ROWS) * np.timedelta64(600, "s")
    floats = random.normal(size=ROWS)
    floats[[3, 9]] = np.nan
    variables = {
        "time": ("time", times),
        "packed": ("time", floats, {"units": "K"}),
        "filled": ("time", floats.astype(np.float32)),
        "seconds": ("time", np.arange(ROWS, dtype="i4"), {"units": "seconds"}),
        **{name.replace(">", "big "): ("time", random.integers(0, 100, ROWS).astype(name)) for name in DTYPES},
        "crs": ((), 7),
    }
    return written(
        path,
        variables,
        packed={"dtype": "i2", "scale_factor": 0.01, "add_offset": 273.15, "_FillValue": -32768, "zlib": True},
        filled={"_FillValue": np.float32(-999)},
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_variables_are_what_xarray_decodes_bit_for_bit(tmp_path, suffix):
    path = every_kind(tmp_path / f"a{suffix}")
    with xarray.open_dataset(path, engine="h5netcdf", decode_timedelta=False) as dataset:
        expected = dataset.to_dataframe().reset_index().drop(columns="crs")
    table = open_table(path)
    assert set(table.groups) == set(expected.columns)
    for name, column in Table.of(table.read([name for name in table.groups if name != "time"], None)).columns.items():
        values = expected[name].to_numpy()
        assert (column.dtype, column.tobytes()) == (values.dtype, values.tobytes()), name
    assert read_raw(table, ["time"])["time"].to_numpy().tolist() == expected["time"].to_numpy().tolist()


@pytest.mark.parametrize(
    ("since", "zone", "hour"),
    [
        ("2000-07-01 00:00:00 +2:00", "UTC", -2),
        ("2000-07-01T12:30 -0530", "UTC", 18),
        ("2000-07-01T06:00:00Z", "UTC", 6),
        ("2000-07-01 06:00 UTC", "UTC", 6),
        ("2000-07-01", None, 0),
        ("2000-07-01 06:00:00.0", None, 6),
    ],
)
def test_times_have_the_zone_of_their_units(tmp_path, since, zone, hour):
    variables = {"time": ("time", np.arange(3), {"units": f"hours since {since}"}), "x": ("time", np.ones(3))}
    path = written(tmp_path / "a.nc", variables)
    (only,) = tabular(time="time").sequences(path)
    assert (only.zone, only.time[0]) == (zone, np.datetime64("2000-07-01", "ns") + np.timedelta64(hour, "h"))
    (local,) = tabular(time="time", time_zone="Asia/Tokyo").sequences(path)
    assert local.time[0] == only.time[0] - np.timedelta64(0 if zone else 9, "h")


@pytest.mark.parametrize("name", ["a.h5", "a.data"])
def test_data_sets_of_plain_hdf5_are_columns_if_they_have_one_length(tmp_path, name):
    values = np.arange(8.0).reshape(4, 2)
    with h5py.File(tmp_path / name, "w") as file:
        file["x"], file["y"], file["other"], file["group/z"] = values[:, 0], values[:, 1], np.ones(3), values[:, 0]
    x, y = tabular(inputs="x,y", format="netcdf").under(tmp_path)(tmp_path / name)
    assert x.tobytes() == y.tobytes() == values.tobytes()
    with pytest.raises(SourceError, match=r"variable \w+ has the dimension phony_dim_\d, but \w+ has .* --exclude"):
        tabular(exclude="group", format="netcdf").under(tmp_path)(tmp_path / name)


def test_groups_are_refused_unless_they_are_left_out(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["b/deep/z"], file["c/y"] = np.ones(3), np.ones(2), np.ones(3)
        file.create_group("notes/empty")["version"] = 1
    every: list[dict[str, Any]] = [{"exclude": "b,c"}, {"inputs": "x"}]
    for left_out in every:
        assert tabular(**left_out).under(tmp_path)(tmp_path / "a.h5")[0].tolist() == [[1], [1], [1]]
    assert seqzarr(
        "build", tmp_path / "a.h5", tmp_path / "s.zarr", "--dry-run", "--workers", "0", status=1
    ).stderr.startswith("a.h5: groups within the file are not read: b, c; leave them out with --exclude b,c")


def test_large_integers_of_a_variable_with_a_fill_value_are_not_rounded(tmp_path):
    path = written(tmp_path / "a.nc", {"x": series(1, 2**53 + 1, -1), "y": series(1, 2**53 - 1, -1)}, x=FILL, y=FILL)
    every: list[dict[str, Any]] = [{"inputs": "x"}, {"inputs": "y", "group_by": "x"}]
    for options in every:
        assert "row 2, column x: a whole number is beyond 2**53" in refusal(path, **options, missing="drop")
    (only,) = tabular(exclude="x", missing="drop").sequences(path)
    assert only.inputs.tolist() == [[1], [2**53 - 1]]


def test_text_and_more_dimensions_are_refused_unless_they_are_left_out(tmp_path):
    path = written(
        tmp_path / "a.nc",
        {
            "grid": (("time", "level"), np.ones((2, 3))),
            "name": series("a", "b"),
            "fixed": series(b"a", b"\xc3\xa9"),
            "x": series(1.0, 2.0),
        },
    )
    assert tabular(exclude="grid,name,fixed").under(tmp_path)(path)[0].tolist() == [[1.0], [2.0]]
    with pytest.raises(SourceError, match=r"grid has 2 dimensions \(time, level\); .* --exclude grid, .* --process"):
        tabular(exclude="name,fixed").under(tmp_path)(path)
    assert "column name holds text, not numbers ('a' in row 1)" in refusal(path, exclude="grid,fixed")
    for column, texts in (("name", ["a", "b"]), ("fixed", ["a", "é"])):
        assert read_raw(open_table(path), [column])[column].to_pylist() == texts


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path):
    path = every_kind(tmp_path / "a.nc")
    whole = path.read_bytes()
    for end in (*range(1, len(whole), len(whole) // 60), len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(SourceError, match=r"^a\.nc: (cannot be read|has no)"):
            tabular(inputs="f8").under(tmp_path)(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: 0 bytes"),
        (b"a,b\n1,2\n", "cannot be read: .*; is it a whole HDF5 file"),
        (b"\x1f\x8b\x08 packed", "is no HDF5 file, but begins like a gzip file"),
        (b"CDF\x01 more", "is a NetCDF file of version 3; convert it to version 4"),
    ],
)
def test_files_that_are_not_hdf5_are_refused(tmp_path, content, message):
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(SourceError, match=message):
        open_table(tmp_path / "a.nc")


def test_a_file_without_variables_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/x"], file["more/x"] = [1.0], [1.0]
    with pytest.raises(SourceError, match="has no variables with a dimension, but the groups group, more, which are"):
        open_table(tmp_path / "a.h5")


def test_a_bomb_is_refused_before_it_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (2**40,), "f8", chunks=(2**20,))
    with pytest.raises(SourceError, match=f"unpack to more than {files.UNPACKED_FREELY:,}"):
        open_table(tmp_path / "a.h5").read(["x"], None)


@pytest.mark.parametrize("missing", ["xarray", "h5netcdf", "h5py"])
def test_a_missing_library_is_reported_with_its_extra(tmp_path, monkeypatch, missing):
    (tmp_path / "src").mkdir()
    written(tmp_path / "src/a.nc", {"x": series(1.0)})
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"need {missing}; pip install 'seqzarr\[netcdf\]'") as caught:
        build_files(tmp_path, {})
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_closed(tmp_path, monkeypatch):
    """xarray may leave it open, and HDF5 confuses two files with the same inode while the first is open."""
    path, opened, open_dataset = every_kind(tmp_path / "a.nc"), [], xarray.open_dataset

    def fail(*arguments: Any, **options: Any) -> None:
        opened.append(open_dataset(*arguments, **options))
        raise ValueError("what it holds")

    monkeypatch.setattr(xarray, "open_dataset", fail)
    with pytest.raises(SourceError, match="what it holds"):
        open_table(path)
    assert opened
    path.write_bytes(b"no HDF5 file")
    with pytest.raises(SourceError, match="is it a whole HDF5 file"):
        open_table(path)
    assert not h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
