"""Labels in the names of sources for a process function: the same as with a manifest of these labels."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from builder import LongSequence, Sequence, UsageError, build
from builder.maintenance.checks import verify_sources
from builder.processes.function_process import is_valid_record
from tests.builder.command import recorded
from tests.builder.command import seqzarr_build as run
from tests.builder.source_files import build_files, write_file, write_files
from tests.store.oracle import files

ME = f"{__name__}:read"
KINDS = ("cat", "dog", "cow")


def read(path: Path, *, twice: bool = False):
    """Return the inputs alone, or yield them twice."""
    rows = np.array(json.loads(path.read_text()), np.float32)[:, None]
    return iter([Sequence(rows), Sequence(rows + 1)]) if twice else rows


def with_others(path: Path):
    """Return labels as well, as text and per step; those in the name replace them."""
    rows = np.array(json.loads(path.read_text()), np.float32)[:, None]
    return rows, np.array(["eel"] * len(rows))


def in_pieces(path: Path):
    rows = np.array(json.loads(path.read_text()), np.float32)[:, None]
    return LongSequence(Sequence(rows[at : at + 2]) for at in range(0, len(rows), 2))


def write(folder: Path, *names: str) -> Path:
    texts = (json.dumps([number + step for step in range(len(name) % 5 + 1)]) for number, name in enumerate(names))
    return write_files(folder, dict(zip(names, texts, strict=True)))


def same_but_for_options(one: Path, other: Path) -> None:
    """Compare two stores byte by byte, apart from the options of their builds."""
    found, wanted = files(one), files(other)
    roots = [json.loads(tree.pop("zarr.json")) for tree in (found, wanted)]
    assert found == wanted
    for root in roots:
        build_of = root["attributes"]["seqzarr"][0]["provenance"].pop("build")
        assert {"process", "manifest"} <= build_of.keys()
        root["attributes"]["seqzarr"][0].pop("digest")
    assert roots[0] == roots[1]


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(-20, 20), st.sampled_from(["0.5", "-1.25", "2.0"])),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.sampled_from(["kind", "n", "f"]), min_size=1, max_size=3, unique=True),
    st.sampled_from([read, with_others, in_pieces]),
    st.sampled_from([None, "kind=cow,dog,cat"]),
)
def test_a_store_equals_that_of_a_manifest_of_the_same_labels(made, targets, process, classes):
    if "kind" in targets:
        targets = [target for target in targets if target != "f"]  # fractions cannot be labels beside classes
    else:
        classes = None
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        parts = [{"kind": kind, "n": str(n), "f": f} for kind, n, f in made]
        names = [f"{at}/" + "_".join(part[name] for name in targets) + ".json" for at, part in enumerate(parts)]
        write(place / "src", *names)
        rows = [",".join([name, *(part[one] for one in targets)]) for name, part in zip(names, parts, strict=True)]
        (place / "m.csv").write_text("\n".join([",".join(["source", *targets]), *rows]) + "\n")
        groups = {"kind": "(?P<kind>[a-z]+)", "n": r"(?P<n>-?\d+)", "f": r"(?P<f>-?\d+\.\d+)"}
        pattern = r"^\d+/" + "_".join(groups[target] for target in targets) + r"\.json$"
        options: dict[str, Any] = {"process": process, "classes": classes, "workers": 0}
        report = build(place / "src", place / "t", **options, label_pattern=pattern)
        other = build(place / "src", place / "u", **options, manifest=place / "m.csv", label_column=",".join(targets))
        assert report.failures == other.failures == ()
        same_but_for_options(place / "t", place / "u")
        store = store_spec.open_store(place / "t")
        assert store.schema.labels.names == tuple(targets)
        assert store.schema.label_axis == "sequence"
        known = list(dict.fromkeys(kind for kind, _, _ in made)) if classes is None else ["cow", "dog", "cat"]
        for at, part in enumerate(parts):  # the simple way
            expected = [known.index(part[name]) if name == "kind" else float(part[name]) for name in targets]
            assert store[store.sources.index(names[at])][1].tolist() == expected


def test_the_command_records_the_pattern_and_a_later_build_needs_it_no_more(tmp_path):
    src = write(tmp_path / "src", "one_1.json", "two_2.json")  # a step each, which could have a label of its own
    asked = ["--process", ME, "--label-pattern", r"_(\d)"]
    seen = json.loads(run(src, tmp_path / "t", *asked, "--dry-run", "--json").stdout)
    assert (seen["result"]["label_axis"], seen["failures"]) == ("sequence", [])
    assert run(src, tmp_path / "t", *asked).exit_code == 0
    assert recorded(tmp_path / "t")["process"] == {"function": ME, "label_pattern": r"_(\d)"}
    write(src, "c_3.json")
    assert "to_process" in run(src, tmp_path / "t", "--dry-run", "--json").stdout
    for again in ([], asked[2:], asked):
        assert run(src, tmp_path / "t", *again, status=0).stderr == ""
    store = store_spec.open_store(tmp_path / "t")
    assert [y.tolist() for _, y in store] == [[1], [2], [3]]
    assert verify_sources(tmp_path / "t", src, workers=0) == []
    build(src, tmp_path / "v", process=with_others, classes="eel", workers=0)
    with pytest.raises(UsageError, match=r"pattern not given, but the option is now label_pattern x\("):
        build(src, tmp_path / "v", label_pattern="x(.)", workers=0)


def test_a_name_without_a_label_fails_alone_and_is_not_processed(tmp_path):
    write(tmp_path / "src", "a1.json", "cx.json", "d4.json")
    built = build_files(tmp_path, {"b.json": "not read"}, read, label_pattern=r"[ac-z](\w)\.")
    assert [str(failure) for failure in built.report.failures] == [
        (
            r"b.json: its name does not match '[ac-z](\w)\.' of label_pattern (--label-pattern); correct one of the "
            "two, or leave the file out of the sources"
        ),
        r"cx.json: label_pattern='[ac-z](\\w)\\.' finds ['x'] in its name; each must be a number",
    ]
    assert [y.tolist() for _, y in built.store] == [[1], [4]]
    built = build_files(tmp_path, {}, read, "u", label_pattern=r"([a-z]+)\.", classes="b,cx")
    assert [failure.source for failure in built.report.failures] == ["a1.json", "b.json", "d4.json"]
    assert "its name does not match" in built.reasons[0]
    built = build_files(tmp_path, {}, read, "v", label_pattern=r"([a-z]+)\d?\.", classes="a,b,cx")
    assert [failure.source for failure in built.report.failures] == ["b.json", "d4.json"]
    assert "group 1: 'd' is none of the 3 classes (a, b, cx) that --classes names" in built.reasons[1]


def test_kept_columns_of_a_manifest_go_with_labels_in_names(tmp_path):
    write(tmp_path / "src", "a_1.json", "b_2.json")
    manifest = write_file(tmp_path / "m.csv", "source,site\na_1,x\nb_2,y\n")
    store = build_files(tmp_path, {}, read, label_pattern=r"_(\d)", manifest=manifest, keep="site").store
    assert [y.tolist() for _, y in store] == [[1], [2]]
    assert store.sequences["site"].tolist() == ["x", "y"]
    assert build_files(tmp_path, {}, manifest=manifest, label_axis="sequence").report.unchanged == 2


@pytest.mark.parametrize("pattern", [3, "(", "", ["(.)"], "none"])
def test_a_recorded_pattern_is_validated(pattern):
    assert is_valid_record({"function": ME, "label_pattern": r"_(\d)"})
    assert not is_valid_record({"function": ME, "label_pattern": pattern})
