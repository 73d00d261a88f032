"""The stores of the documents' commands, and those below `tests/data`, equal the recorded ones bit for bit."""

import json
import re

import numpy as np
import pytest

from tests.builder.command import python
from tests.documents import REPOSITORY
from tests.frozen.building import ways
from tests.frozen.cases import Case, of_gallery, of_repository
from tests.frozen.reading import digest
from tests.frozen.record import differences

RECORDS = {
    "frozen.json": [case.name for case in of_repository()] + ["golden stores", "malformed stores"],
    "frozen-gallery.json": [case.name for case in of_gallery() if case.name != "gallery, japanese-vowels"],
}


@pytest.mark.slow
def test_the_quick_cases_equal_the_recorded_ones():
    done = python("-m", "tests.frozen", "compare", "tests/data/frozen.json", "--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"frozen.json: 0 differences in 5 cases, [1-9]\d* stores built, .*quick: ", done.stdout)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_has_each_variant_of_each_case(name):
    recorded = json.loads((REPOSITORY / "tests" / "data" / name).read_text(encoding="utf-8"))
    assert sorted(recorded["cases"]) == sorted(RECORDS[name])
    for each in recorded["cases"].values():
        if "case" in each:
            assert set(each["stores"]) == {variant for variant, _ in ways(Case(**each["case"]))}
        assert all(stores and all(kinds["batches"] for kinds in stores.values()) for stores in each["stores"].values())


def test_each_difference_is_one_line_that_names_it():
    old = {"a.zarr": {"files": {"zarr.json": "1" * 64, "gone": "2" * 64}, "batches": {"padded": "WindowError"}}}
    new = {"a.zarr": {"files": {"zarr.json": "3" * 64, "new": "4" * 64}, "batches": {"padded": "5" * 64}}, "b.zarr": {}}
    assert [*differences("one", old, old)] == []
    assert [*differences("one", old, new)] == [
        "one: a.zarr, files, gone: recorded 222222222222, now nothing",
        "one: a.zarr, files, new: recorded nothing, now 444444444444",
        "one: a.zarr, files, zarr.json: recorded 111111111111, now 333333333333",
        "one: a.zarr, batches, padded: recorded WindowError, now 555555555555",
        "one: the store b.zarr is not recorded",
    ]
    assert [*differences("one", new, old)][-1] == "one: the store b.zarr is no longer made"


def test_digests_distinguish_dtypes_shapes_bits_and_order():
    one = np.arange(6, dtype="int32")
    others = [one.astype("int64"), one.reshape(2, 3), one[::-1], [one], (one, one), {"a": one}, None, "", 0, 0.0, True]
    assert len({digest(each) for each in [one, *others]}) == len(others) + 1
    assert digest((one, [one])) == digest(iter([one.copy(), (one,)]))
    assert digest(np.array([0.0])) != digest(np.array([-0.0]))
    assert digest(np.array(["a", None], object)) != digest(np.array(["a", "None"], object))
