"""`--labels none`: the store has only inputs, and windows take their targets from them."""

from typing import Any

import numpy as np
import pytest
import tensorstore
import xarray
import zarr

import store_spec
from builder import build, tabular
from tests.builder.command import seqzarr


def write_sources(folder):
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number, length in enumerate([30, 7, 45, 12]):
        rows = [f"{t},{a:.3f},{b:.3f}" for t, (a, b) in enumerate(rng.normal(size=(length, 2)))]
        rows[3] = "3,,1"
        (folder / f"s{number}.csv").write_text("\n".join(["t,a,b", *rows]) + "\n")
    return folder


OPTIONS: dict[str, dict[str, Any]] = {
    "filled": {"missing": "ffill+drop"},
    "cut": {"missing": "split"},
    "kept": {"missing": "keep", "dtype": "float32"},
    "timed": {"missing": "interpolate+drop", "time": "t", "time_unit": "s"},
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "workers"), [("filled", 0), ("cut", 0), ("kept", 2), ("timed", 0)])
def test_inputs_and_forecasts_are_those_of_a_store_whose_labels_are_the_inputs(tmp_path, name, workers):
    source = write_sources(tmp_path / "src")
    stores = []
    for store, labels in (("none", "none"), ("both", "")):
        process = tabular(inputs="a,b", labels=labels or (), **OPTIONS[name])
        build(source, tmp_path / store, process=process, workers=workers, chunk=256, shard=1024)
        assert store_spec.verify(tmp_path / store) == []
        stores.append(store_spec.open_store(tmp_path / store))
    none, both = stores
    assert none.sources == both.sources
    assert none.lengths.tolist() == both.lengths.tolist()
    assert not none.has_labels
    for (x, y), (wanted, _) in zip(none, both, strict=True):
        assert x.tobytes() == wanted.tobytes()
        assert y.shape == (0,)
    for shape in ({"window": 4}, {"window": 3, "horizon": 2, "lead": 1, "normalize": "sequence"}):
        found, expected = list(none.windows(**shape)), list(both.windows(**shape))
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            assert [array.tobytes() for array in one] == [array.tobytes() for array in other]
    (one,), (other,) = none.padded(99), both.padded(99)
    assert [array.tobytes() for array in one] == [array.tobytes() for array in other]
    assert [file.name for file in (none.path / "labels").iterdir()] == ["zarr.json"]


def test_plain_readers_find_an_empty_array_of_labels(tmp_path):
    build(write_sources(tmp_path / "src"), tmp_path / "s", process=tabular(labels="none", missing="keep"), workers=0)
    group = zarr.open_group(tmp_path / "s", mode="r")
    labels, offsets = group["labels"], group["label_offsets"]
    assert isinstance(labels, zarr.Array)
    assert isinstance(offsets, zarr.Array)
    assert labels.shape == (0,)
    assert np.asarray(offsets).tolist() == [0] * 5
    with xarray.open_zarr(tmp_path / "s") as dataset:
        assert dataset["labels"].shape == (0,)
        assert dataset["label_row_size"].values.tolist() == [0] * 4
        assert dataset["inputs"].shape == (94, 3)
        # cfdm takes the first variable with this attribute, which must not be that of no labels.
        counted = [name for name, variable in dataset.variables.items() if "sample_dimension" in variable.attrs]
        assert counted == ["row_size"]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "s" / "labels")}}
    assert tensorstore.open(spec, open=True, read=True).result().read().result().shape == (0,)


def test_the_command_and_inspect_show_that_there_are_no_labels(tmp_path):
    write_sources(tmp_path / "src")
    seqzarr("build", tmp_path / "src", tmp_path / "s", "--labels", "none", "--missing", "ffill+drop", status=0)
    assert "4 unchanged" in seqzarr("build", tmp_path / "src", tmp_path / "s").output
    shown = seqzarr("inspect", tmp_path / "s").output
    assert "none; targets are chosen from the inputs when reading" in shown
    assert "has no value" not in shown
    assert seqzarr("inspect", tmp_path / "s", "--html", tmp_path / "page.html").exit_code == 0
    assert "without labels." in (tmp_path / "page.html").read_text()
