"""A build of changed sources: `build` is like `make`.

If a manifest lists sources whose files are gone, these are vanished sources, not faults of the manifest.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import store_spec
from builder import BuildError, UsageError, build, compact, preview, tabular
from builder.execution.report import parse_limit
from store_spec.disk.ledger import Ledger
from tests.builder.command import seqzarr
from tests.builder.made_sources import Made, made_sequences, read_made, write_made
from tests.builder.source_files import write_files
from tests.store.oracle import assert_holds, files

SOURCES = {f"{letter}.made": Made(lengths=(3, number), seed=number) for number, letter in enumerate("abcdef")}


def run(place: Path, **options: Any) -> Any:
    given: dict[str, Any] = {"process": read_made, "workers": 0, "chunk": 120, "shard": 240} | options
    return build(place / "src", place / "store", **given)


def sequences(sources: dict[str, Made]) -> list[Any]:
    return [sequence for name, made in sources.items() for sequence in made_sequences(name, made)]


@pytest.fixture
def place(tmp_path):
    write_made(tmp_path / "src", SOURCES)
    run(tmp_path)
    return tmp_path


@pytest.mark.parametrize("left", [0, 1, 3])
def test_if_most_sources_are_gone_none_is_retired_without_yes(place, left):
    before = files(place / "store")
    for path in sorted((place / "src").iterdir())[left:]:
        path.unlink()
    write_made(place / "src", {"new.made": Made()} if not left else {})
    message = rf"{6 - left} of its 6 sources are not in .*src, such as {'abcdef'[left]}.made; is that the right folder"
    with pytest.raises(UsageError, match=message):
        run(place, retire_missing=True)
    assert files(place / "store") == before
    assert run(place, retire_missing=True, yes=True).retired == 6 - left


def test_an_empty_folder_retires_sequences_only_on_request(place):
    before = files(place / "store")
    for path in (place / "src").iterdir():
        path.unlink()
    for options in ({}, {"retire_missing": True}):
        with pytest.raises(UsageError, match=r"no file|nothing|empty"):
            run(place, **options)
    assert files(place / "store") == before
    report = run(place, retire_missing=True, yes=True)
    assert (report.retired, report.total_sequences) == (6, 0)
    assert len(store_spec.open_store(place / "store")) == 0
    shutil.rmtree(place / "src")
    with pytest.raises(UsageError, match="no such file or folder"):
        run(place, retire_missing=True, yes=True)


def test_a_build_that_another_one_overtook_does_nothing(place, monkeypatch):
    write_made(place / "src", {"g.made": Made()})
    opening = Ledger.open

    def late(path):
        monkeypatch.setattr(Ledger, "open", opening)
        run(place)
        return opening(path)

    monkeypatch.setattr(Ledger, "open", late)
    with pytest.raises(BuildError, match="another process changed it meanwhile; nothing was done"):
        run(place)
    assert_holds(store_spec.open_store(place / "store"), sequences(SOURCES | {"g.made": Made()}))


changes = st.lists(st.sampled_from(["", "", "write", "break", "remove"]), min_size=6, max_size=6)  # of each source


@pytest.mark.slow
@settings(phases=[Phase.reuse, Phase.generate])  # a shorter history takes minutes to find
@given(rounds=st.lists(st.tuples(changes, st.booleans(), st.booleans()), min_size=2, max_size=4))
def test_after_any_history_a_store_holds_what_the_sources_hold(tmp_path_factory, rounds):
    """Each build may update changed sources, and retire missing ones; new versions come last, in order of names."""
    place = tmp_path_factory.mktemp("history")
    there, held = SOURCES | {"z.made": Made()}, dict[str, Made]()
    for seed, (changed_now, update, retire) in enumerate(rounds):
        for name, kind in zip(SOURCES, changed_now, strict=True):
            if kind == "remove":
                there.pop(name, None)
                (place / "src" / name).unlink(missing_ok=True)
            elif kind:
                there[name] = Made(lengths=(seed % 3, 2), seed=seed, fault="raises midway" if kind == "break" else "")
        write_made(place / "src", there)
        differ = {name for name in there if name in held and held[name] != there[name]}
        tried = {name: there[name] for name in sorted(there) if name not in held or (update and name in differ)}
        new = {name: made for name, made in tried.items() if not made.fault}
        gone = sorted(held.keys() - there)
        report = run(place, update=update, retire_missing=retire, yes=True)
        assert [failure.source for failure in report.failures] == [name for name in tried if name not in new]
        assert (report.added, report.updated) == (len(new.keys() - held), len(new.keys() & held))
        assert report.changed == (() if update else tuple(sorted(differ)))
        assert (list(report.vanished), report.retired) == (gone, len(gone) if retire else 0)
        assert report.unchanged == len(there) - len(tried) - len(report.changed)
        held = {name: made for name, made in held.items() if name not in new and not (retire and name in gone)} | new
        assert_holds(store_spec.open_store(place / "store"), sequences(held))
        before = files(place / "store")
        assert run(place, update=update, retire_missing=retire, yes=True).added == 0
        assert files(place / "store") == before
    assert store_spec.verify(place / "store") == []


@pytest.mark.parametrize("limit", ["many", "-1", "101%", "%", "nan", -3])
def test_invalid_limits_of_failures_are_refused(limit):
    with pytest.raises(UsageError, match="max_failures"):
        parse_limit(limit, 1)


@pytest.fixture
def tables(tmp_path):
    write_files(tmp_path / "src", {f"{name}.csv": f"x,y\n1,{ord(name)}\n2,3\n" for name in "abcd"})
    assert seqzarr("build", tmp_path / "src", tmp_path / "s.zarr").exit_code == 0
    (tmp_path / "src" / "b.csv").write_text("x,y\n5,6\n")
    (tmp_path / "src" / "c.csv").unlink()
    (tmp_path / "src" / "e.csv").write_text("x,y\n7,8\n")
    return tmp_path


def test_a_first_build_that_mostly_fails_says_how_to_build_with_other_options(tables):
    """The options in the advice would be refused, as the store records how it was built."""
    for name in "bcd":
        (tables / "src" / f"{name}.csv").write_text("x,y\n1,\n2,3\n")
    advice = "3 of 5 sources failed, and the store records the options of this build: to build with others, as these "
    assert seqzarr("build", tables / "src", tables / "new.zarr", status=1).stderr.partition("lines")[0] == advice
    result = seqzarr("build", tables / "src", tables / "new.zarr")  # not again: the others are built
    assert "other" not in result.stderr
    shutil.rmtree(tables / "new.zarr")
    assert seqzarr("build", tables / "src", tables / "new.zarr", "--missing", "drop").exit_code == 0


def test_the_command_names_leftovers_and_says_how_to_continue(tables):
    result = seqzarr("build", tables / "src", tables / "s.zarr", status=1)
    assert result.stdout.startswith("s.zarr: 1 source added, 2 unchanged, 1 step, ")
    assert result.stderr == (
        "changed since the store was built: 1 source (b.csv); --update builds such sources again\n"
        "no longer exist: 1 source (c.csv); --retire-missing retires their sequences\n"
    )
    result = seqzarr("build", tables / "src", tables / "s.zarr", "--update", "--retire-missing")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("s.zarr: 1 source built again, 1 source retired, 3 unchanged, 1 step, ")
    result = seqzarr("build", tables / "src", tables / "s.zarr")
    assert (result.exit_code, result.stdout) == (0, "s.zarr: nothing new, 4 unchanged; 0 failed\n")
    found = json.loads(seqzarr("inspect", tables / "s.zarr", "--json").stdout)
    assert (found["sequences"], found["retired"], found["sources"]) == (4, 2, 4)
    assert "2 sequences, whose rows stay on disk" in seqzarr("inspect", tables / "s.zarr").stdout


def test_a_dry_run_shows_changes_of_the_sources(tables):
    result = seqzarr("build", tables / "src", tables / "s.zarr", "--dry-run")
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:] if cell.strip()] for cells in lines if len(cells) > 3}
    assert rows["new"] == ["1", "adds them", "e.csv"]
    assert rows["changed"][0::2] == ["1", "b.csv"]
    assert rows["unchanged"] == ["2", "leaves them as they are"]
    assert rows["vanished"][0::2] == ["1", "c.csv"]
    assert (result.exit_code, result.stderr) == (1, "")  # as the build would end
    result = seqzarr("build", tables / "src", tables / "s.zarr", "--dry-run", "--json", "--update")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    due = {"new": ["e.csv"], "changed": ["b.csv"], "unchanged": 2, "vanished": ["c.csv"]}
    assert {name: found[name] for name in due} == due
    assert (found["to_process"], found["update"], found["retire_missing"]) == (2, True, False)


def test_a_dry_run_refuses_what_the_build_would_refuse(tables):
    for name in "abe":
        (tables / "src" / f"{name}.csv").unlink()
    command = ("build", tables / "src", tables / "s.zarr", "--retire-missing")
    for more in ((), ("--yes",)):
        dry, done = seqzarr(*command, *more, "--dry-run"), seqzarr(*command, *more)
        assert (dry.exit_code, dry.stderr) == (done.exit_code, done.stderr)
    assert done.exit_code == 0


def test_fail_fast_stops_at_the_first_and_keeps_what_was_committed(tables, monkeypatch):
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    for name in ("f", "g"):
        (tables / "src" / f"{name}.csv").write_text("x,y\nnothing,1\n")
    result = seqzarr("build", tables / "src", tables / "s.zarr", "--fail-fast", "--batch", "1", "--workers", "0")
    assert result.exit_code == 1
    assert "1 of 2 sources failed, and none may (max_failures=0, --fail-fast); the first: f.csv: col" in result.stderr
    assert "; 5 sequences are committed, and the next build goes on from there" in result.stderr
    assert store_spec.open_store(tables / "s.zarr").sources == (*(f"{name}.csv" for name in "abcde"),)


def test_a_limit_of_failures_holds_without_a_usable_source(tmp_path, monkeypatch):
    """They are tried until one is usable; of a share of them, the integer below it may fail."""
    monkeypatch.setattr(sys.modules["builder.execution.build"], "PROBED", 3)
    write_made(tmp_path / "src", {f"{number:02}.made": Made(fault="raises") for number in range(17)})
    for limit, count, may in ((0, 3, 0), ("10%", 3, 1), (4, 15, 4), ("99%", 17, 16)):
        most = f"at most {may} may" if may else "none may"
        with pytest.raises(BuildError, match=rf"^{count} of {count} sources failed, and {most}"):
            run(tmp_path, max_failures=limit)
    assert len(run(tmp_path, max_failures="100%").failures) == 17
    assert not (tmp_path / "store").exists()
    write_made(tmp_path / "src", {"last.made": Made()})
    report = run(tmp_path, max_failures="100%")
    assert (report.added, len(report.failures)) == (1, 17)


def test_files_that_are_in_the_store_under_another_root_are_not_appended_again(tmp_path):
    write_files(tmp_path / "src", {"a/1.csv": "v\n1\n", "a/2.csv": "v\n2\n", "b/1.csv": "v\n3\n"})
    build(tmp_path / "src", tmp_path / "store")
    before = files(tmp_path / "store")
    with pytest.raises(UsageError, match=r"1\.csv is already in the store, as a/1\.csv"):
        build(tmp_path / "src/a", tmp_path / "store")
    with pytest.raises(UsageError, match=r"src/a/1\.csv is already in the store, as a/1\.csv"):
        build(tmp_path, tmp_path / "store", process=tabular())
    assert files(tmp_path / "store") == before
    # Not even if another source of the store has the name of the first.
    write_files(tmp_path / "src", {"1.csv": "v\n5\n"})
    assert build(tmp_path / "src", tmp_path / "store").added == 1
    with pytest.raises(UsageError, match=r"2\.csv is already in the store, as a/2\.csv"):
        build(tmp_path / "src/a", tmp_path / "store", process=tabular())
    # Other bytes under such a name are another file.
    write_files(tmp_path / "more", {"2.csv": "v\n9\n"})
    assert build(tmp_path / "more", tmp_path / "store").added == 1
    write_files(tmp_path / "more", {"2.csv": "v\n9\n9\n", "3.csv": "v\n8\n"})
    report = build(tmp_path / "more", tmp_path / "store")
    assert (report.added, report.changed) == (1, ("2.csv",))


def test_a_file_with_the_old_bytes_of_one_that_changed_is_new(tmp_path):
    write_files(tmp_path / "src", {"a/1.csv": "v\n1\n"})
    build(tmp_path / "src", tmp_path / "store")
    write_files(tmp_path / "src", {"a/1.csv": "v\n2\n", "1.csv": "v\n1\n"})
    report = build(tmp_path / "src", tmp_path / "store")
    assert (report.added, report.changed) == (1, ("a/1.csv",))


def test_a_copied_and_a_moved_source_are_new_sources(tmp_path):
    """As in one build of them all; the other new files are added too."""
    write_files(tmp_path / "src", {"pump.csv": "v\n0\n0\n", "n1.csv": "v\n1\n", "stays.csv": "v\n2\n"})
    build(tmp_path / "src", tmp_path / "store")
    write_files(tmp_path / "src", {"day2/pump.csv": "v\n0\n0\n", "other.csv": "v\n5\n"})
    (tmp_path / "src/n1.csv").rename(tmp_path / "src/day2/n1.csv")
    report = build(tmp_path / "src", tmp_path / "store")
    assert (report.added, report.vanished) == (3, ("n1.csv",))
    new = ["day2/n1.csv", "day2/pump.csv", "other.csv"]
    assert list(store_spec.open_store(tmp_path / "store").sources[-3:]) == new
    build(tmp_path / "src", tmp_path / "store", retire_missing=True)
    assert "n1.csv" not in store_spec.open_store(tmp_path / "store").sources


def test_a_source_that_changes_while_it_is_read_fails(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made(seed=1), "b.made": Made(seed=2)})

    def touched(path: Path) -> Any:
        if path.name == "a.made" and path.stat().st_mtime_ns:
            os.utime(path, ns=(0, 0))
        return read_made(path)

    os.utime(tmp_path / "src/a.made", ns=(1, 1))
    report = build(tmp_path / "src", tmp_path / "store", process=touched, workers=0, max_failures=99)
    # Tried and then read again: by then it has its final time.
    assert [failure.source for failure in report.failures] == []

    def growing(path: Path) -> Any:
        pairs = list(read_made(path))
        with path.open("a") as file:
            file.write(" ")
        return pairs

    def swapped(path: Path) -> Any:
        """Read another file that is in this place for a moment."""
        path.rename(tmp_path / "away")
        write_made(path.parent, {path.name: Made(seed=3)})
        pairs = list(read_made(path))
        (tmp_path / "away").rename(path)
        return pairs

    def emptied(path: Path) -> Any:
        """Find no rows in a file that another program is writing again."""
        text = path.read_text()
        path.write_text("")
        path.write_text(text)
        yield from ()

    for process in (growing, swapped, emptied):
        report = build(tmp_path / "src", tmp_path / "other", process=process, workers=0, max_failures=99)
        assert [failure.reason for failure in report.failures] == [
            "it changed while it was read; the next build tries it again"
        ] * 2
        assert not (tmp_path / "other").exists()


NAMES = "abcdef"


def listed(listing: Path, names: str = NAMES) -> None:
    rows = "".join(f"{name},{'odd' if number % 2 else 'even'},{number}\n" for number, name in enumerate(names))
    (listing / "src/m.csv").write_text(f"source,y,age\n{rows}")


@pytest.fixture
def listing(tmp_path):
    write_files(tmp_path / "src", {f"{name}.csv": f"x\n{number}\n{number + 1}\n" for number, name in enumerate(NAMES)})
    listed(tmp_path)
    asked: dict[str, Any] = {"manifest": tmp_path / "src/m.csv", "label_column": "y", "keep": "age", "workers": 0}
    build(tmp_path / "src", tmp_path / "store", **asked)
    return tmp_path


def run_again(listing: Path, **options: Any) -> Any:
    return build(listing / "src", listing / "store", workers=0, **options)


def test_a_store_with_only_retired_sequences_is_reported_as_existing(listing):
    for name in NAMES:
        (listing / f"src/{name}.csv").unlink()
    listed(listing, "gh")
    for name in "gh":
        (listing / f"src/{name}.csv").write_text("p,q\n1,2\n")
    command = ["build", str(listing / "src"), str(listing / "store"), "--retire-missing", "--yes", "--workers", "0"]
    for done in ("6 sources retired", "nothing new"):
        assert seqzarr(*command, status=1).stdout == f"store: {done}; 2 failed\n"
    assert store_spec.verify(listing / "store") == []


def test_a_source_that_was_retired_may_stay_listed_and_come_back(listing):
    text = (listing / "src/b.csv").read_text()
    (listing / "src/b.csv").unlink()
    run_again(listing, retire_missing=True)
    listed(listing, NAMES + "g")
    (listing / "src/g.csv").write_text("x\n9\n")
    report = run_again(listing)
    assert (report.vanished, report.added, report.unchanged) == ((), 1, 5)
    (listing / "src/b.csv").write_text(text)
    report = run_again(listing)
    assert (report.added, report.unchanged) == (1, 6)
    store = store_spec.open_store(listing / "store")
    assert store.sources[-1] == "b.csv"
    assert store.sequences["age"].tolist() == [0, 2, 3, 4, 5, 6, 1]


def test_a_row_without_a_file_is_named_or_with_manifest_strict_an_error(listing):
    (listing / "src/b.csv").unlink()
    listed(listing, NAMES + "z")
    for options in ({}, {"retire_missing": True}):
        with pytest.raises(UsageError, match=r"By stem: 1 row \(z\) without a source; remove the rows"):
            run_again(listing, manifest_strict=True, **options)
    report = run_again(listing)
    assert (report.absent, report.vanished) == (("z",), ("b.csv",))
    assert preview(listing / "src", listing / "store").absent == ("z",)
    result = seqzarr("build", listing / "src", listing / "store", "--retire-missing")
    assert result.exit_code == 0
    assert "there are no files for 1 source of the manifest: z; --manifest-strict refuses that\n" in result.stderr
    assert "there are no files for 1 source" in seqzarr("build", listing / "src", listing / "store", "--dry-run").stdout
    assert seqzarr("build", listing / "src", listing / "store", "--manifest-strict").exit_code == 2
    listed(listing)
    compact(listing / "store", listing / "small", workers=0)
    with pytest.raises(UsageError, match=r"By stem: 1 row \(b\) without a source"):  # it is forgotten there
        build(listing / "src", listing / "small", workers=0, manifest_strict=True)
