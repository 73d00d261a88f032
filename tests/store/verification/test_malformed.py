"""Stores with faults are refused, each with its own error: never a crash, never wrong rows.

Nothing in them is executed, leads outside, hangs, or takes memory by a false claim.
"""

import json
import os
import shutil
import socket
import sys
import tracemalloc
from functools import partial
from pathlib import Path

import pytest

import store_spec
from store_spec import errors
from store_spec.errors import FormatError, StorageError
from tests.campaigns.processes import in_process
from tests.store.damage import ROOT, attribute, linked, metadata, removed, root
from tests.store.hostile import TEMPTATIONS, tempted, use, watched
from tests.store.hostile_stores import (
    FOREIGN,
    LINKED,
    OFFSETS,
    OWN_DOCUMENTS,
    PICKLE,
    PROVENANCE,
    SHARD,
    STEPS,
    TOO_LARGE,
    classes_twice,
    columns_twice,
    copy_of_steps,
    members_twice,
    names_twice,
    secret_sources,
    text_put,
)
from tests.store.make_golden import GOLDEN, STORES
from tests.store.make_malformed import FAULTS, MALFORMED, ZARR_2, read_and_compare
from tests.store.oracle import files
from tests.store.zarr_stores import in_memory

BY_NAME = {golden.name: golden for golden in STORES}
LARGEST_MEMORY = 100 * 2**20  # a root document of 64 MiB is read before it is refused


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_malformed_store_is_refused_with_its_own_error_and_verify_finds_it(fault, tmp_path):
    path = tmp_path / "store.zarr"
    (fault.assemble if fault.committed else fault.make)(path)
    tracemalloc.start()
    try:
        with pytest.raises(errors.StoreError) as caught:
            read_and_compare(path, BY_NAME[fault.base])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert type(caught.value).__name__ == fault.error
    assert fault.text in message
    assert str(path) in message
    assert len(message) < 1500
    assert peak < LARGEST_MEMORY
    if fault.error == "MissingStoreError":  # nothing there could have a problem
        with pytest.raises(errors.MissingStoreError):
            store_spec.verify(path)
    else:
        problems = store_spec.verify(path)
        assert problems
        assert all(len(str(problem)) < 1500 for problem in problems)
    if fault.committed:  # the file is what its script makes
        fault.make(tmp_path / "made.zarr")
        assert files(tmp_path / "made.zarr") == files(path)


def test_every_fault_has_a_unique_name_and_text():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
    assert {path.name for path in MALFORMED.iterdir()} - {"faults.json"} <= {fault.name for fault in FAULTS}


MEMORY = 2**28  # bytes; the stores claim more
SECONDS = 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Path, in_memory])
@pytest.mark.parametrize("name", TOO_LARGE)
def test_sizes_are_checked_before_memory_is_taken(name, kind, tmp_path):
    """On the disk, and in a store of zarr."""
    base, damage, text = TOO_LARGE[name]
    damage(shutil.copytree(GOLDEN / f"{base}.zarr", tmp_path / "store"))
    store = kind(tmp_path / "store")
    tracemalloc.start()
    try:
        error, problems = use(store)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert text in str(error or "\n".join(problems))
    assert peak < MEMORY


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (text_put(ROOT, PROVENANCE, members_twice), "an object with two members '7'"),
        (root(names_twice), "the name '199998' is given twice"),
        (root(columns_twice), "columns '199998' and '199998' have the same name"),
        (root(classes_twice), "the class name '199998' is given twice"),
    ],
)
def test_finding_repeated_names_takes_linear_time(damage, text, tmp_path):
    assert text in str(use(copy_of_steps(tmp_path / "store", damage))[0])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Every third malformed store, and some with links, to watch; a valid one first, so that everything is imported."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret").write_text("secret")
    paths = [copy_of_steps(folder / "sound"), copy_of_steps(folder / "unsound", attribute("missing", 1))]
    for fault in FAULTS[::3]:
        (fault.assemble if fault.committed else fault.make)(folder / fault.name / "store")
        paths.append(folder / fault.name / "store")
    made = FOREIGN | {name: linked(name, "../secret") for name in LINKED}
    made |= {"names": secret_sources, "hidden": metadata("evil", ZARR_2)}
    paths += [copy_of_steps(folder / name.replace("/", "-"), damage) for name, damage in made.items()]
    return [str(path) for path in paths]


@pytest.mark.slow
def test_hostile_stores_execute_and_open_nothing_outside(hostile):
    seen = in_process(partial(watched, hostile), seconds=SECONDS)
    assert len(seen) == len(hostile)
    assert {path: what for path, what in seen.items() if what} == {}


def test_the_audit_hook_finds_what_it_should(tmp_path):
    (tmp_path / "outside").write_text("outside")
    path = copy_of_steps(tmp_path / "store")
    (path / "link").symlink_to("../outside")
    seen = in_process(partial(tempted, str(path)), seconds=SECONDS)
    assert {name for name, what in seen.items() if what} == set(TEMPTATIONS)


NOT_THERE = ("inputs/c.99.0", "more")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target"),
    [
        (name, target)
        for number, name in enumerate((*LINKED, *NOT_THERE))
        for place, target in enumerate(["outside", "inside", "itself", "nowhere"])
        if name in (ROOT, SHARD) or number % 4 == place
    ],
)
def test_links_are_refused_anywhere(name, target, tmp_path):
    path = copy_of_steps(tmp_path / "store")
    shutil.copytree(STEPS, tmp_path / "other")
    (path / "copies").mkdir()
    shutil.copytree(STEPS, path / "copies" / "inside")
    targets = {"outside": tmp_path / "other" / name, "inside": path / "copies" / "inside" / name}
    damage = linked(name, str({**targets, "itself": path / name, "nowhere": tmp_path / "nowhere"}[target]))
    damage(path)
    error, problems = use(path)
    if name in (*OWN_DOCUMENTS, *NOT_THERE):  # readers do not look at it
        assert error is None
    else:
        assert isinstance(error, FormatError)
        assert str(error).startswith(f"{path / name}: a link; a store holds plain files")
    assert any(problem.startswith(f"store/{name}: a link; a store holds plain files") for problem in problems)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("pipe", name) for name in LINKED if "c." in name or ROOT in name] + [("socket", SHARD), ("socket", OFFSETS)],
)
def test_files_that_would_block_are_refused(name, kind, tmp_path, monkeypatch):
    path = copy_of_steps(tmp_path / "store", removed(name))
    if kind == "pipe":
        os.mkfifo(path / name)
    else:
        monkeypatch.chdir((path / name).parent)  # the name of a socket has at most some hundred bytes
        with socket.socket(socket.AF_UNIX) as server:
            server.bind((path / name).name)
    error, problems = use(path)
    said = "not a plain file" if kind == "pipe" else "opening failed"
    assert isinstance(error, FormatError | StorageError) != (name in OWN_DOCUMENTS)
    assert error is None or f"{path / name}: {said}" in str(error)
    assert any(problem.startswith(f"store/{name}: {said}") for problem in problems)


@pytest.mark.parametrize("name", FOREIGN)
def test_content_that_other_software_would_execute_is_refused(name, tmp_path):
    path, loaded = copy_of_steps(tmp_path / "store", FOREIGN[name]), set(sys.modules)
    error, problems = use(path)
    assert isinstance(error, FormatError)
    assert str(error).startswith(f"{path / ROOT}: {name.partition(':')[0]}: ")
    assert len(problems) == 1
    assert set(sys.modules) == loaded


@pytest.mark.parametrize("hidden", [ZARR_2, {"zarr_format": 3, "node_type": "array", "codecs": [PICKLE]}, None, 7])
def test_foreign_members_and_documents_are_ignored(hidden, tmp_path):
    path = copy_of_steps(tmp_path / "store", metadata("evil", hidden))
    (path / ".zarray").write_text(json.dumps(ZARR_2))
    (path / "inputs" / ".zarray").write_text(json.dumps(ZARR_2))
    error, problems = use(path)
    assert error is None
    assert [problem.partition(":")[0] for problem in problems] == ["store/.zarray", "store/inputs/.zarray"]


def test_names_of_sources_are_validated(tmp_path):
    path = copy_of_steps(tmp_path / "store", secret_sources)
    assert store_spec.open_store(path).sources[1] == "/etc/passwd"
    assert use(path)[0] is None
