"""Units and descriptions of columns, from files that have them to `inspect`, the HTML page and xarray."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr

import builder
import store_spec
from builder import tabular, write_report
from store_spec.errors import SchemaError
from store_spec.schema import Rows
from tests.builder.command import seqzarr
from tests.builder.source_files import build_files, write_file
from tests.store.oracle import files

NOTES = {"flow": {"units": "m3/s", "long_name": "discharge\n of the river"}, "level": {"unit": "m"}, "id": {}}
UNITS, DESCRIPTIONS = ("m3/s", "m", ""), ("discharge of the river", "", "")


def write(path: Path) -> None:
    """Write the same columns in any format, with the metadata that it supports."""
    values = {name: np.arange(3.0) + place for place, name in enumerate(NOTES)}
    if path.suffix == ".nc":
        path.parent.mkdir()
        dataset = xr.Dataset({name: ("t", column, NOTES[name]) for name, column in values.items()})
        dataset.to_netcdf(path, engine="h5netcdf")
    else:
        fields = [pa.field(name, pa.float64(), metadata=NOTES[name]) for name in values]
        write_file(path, pa.table(list(values.values()), schema=pa.schema(fields)))


@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".nc"])
def test_units_and_descriptions_of_files_are_shown_everywhere(tmp_path, suffix):
    write(tmp_path / f"src/a{suffix}")
    built = build_files(tmp_path, {}, tabular(inputs="flow,level,id", labels="level"))
    store, schema = built.path, built.store.schema
    assert (schema.inputs.units, schema.inputs.descriptions) == (UNITS, DESCRIPTIONS)
    assert (schema.labels.units, schema.labels.descriptions) == (("m",), None)
    assert store_spec.verify(store) == []
    with xr.open_zarr(store, consolidated=True) as dataset:
        assert dataset.inputs.attrs == {"feature_units": list(UNITS), "feature_descriptions": list(DESCRIPTIONS)}
        assert dataset.labels.attrs == {"target_units": ["m"]}
    shown = seqzarr("inspect", store).stdout
    assert "unit: description" in shown
    assert "m3/s: discharge of the river" in shown
    found = json.loads(seqzarr("inspect", "--json", store).stdout)
    assert found["inputs"]["units"] == list(UNITS)
    assert [one["unit"] for one in found["statistics"]] == [*UNITS, "m"]
    write_report(store, tmp_path / "page.html")
    assert "<small>m3/s: discharge of the river</small>" in (tmp_path / "page.html").read_text()
    builder.compact(store, tmp_path / "small.zarr", workers=0)
    assert store_spec.open_store(tmp_path / "small.zarr").schema.inputs == schema.inputs
    before = files(store)
    assert files(build_files(tmp_path, {}).path) == before


def test_a_scaled_column_has_another_unit_and_one_without_notes_stores_none(tmp_path):
    write(tmp_path / "src/a.parquet")

    def units(store: str, **options: Any) -> Any:
        return build_files(tmp_path, {}, tabular(**options), store).store.schema.inputs

    assert units("a", inputs="level,flow", transforms=["scale flow=0.03"]).units == ("m", "")
    assert units("b", inputs="level,flow", transforms=["diff flow", "log level"]).units == ("", "m3/s")
    assert units("c", inputs="level", transforms=["log level", "scale level=2"]).units is None
    rows = units("d", inputs="id")
    assert (rows.units, rows.descriptions) == (None, None)
    assert "feature" not in json.dumps(json.loads((tmp_path / "d/inputs/zarr.json").read_text())["attributes"])


@pytest.mark.parametrize(("units", "message"), [(["m", "x" * 5000], "has 5,000 bytes"), ("m2", "give a list of texts")])
def test_units_that_do_not_fit_are_refused(units, message):
    with pytest.raises(SchemaError, match=message):
        Rows(np.dtype("f4"), (2,), units=units)
    assert Rows(np.dtype("f4"), (2,), units=("", "")).units is None
