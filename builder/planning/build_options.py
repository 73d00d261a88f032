"""The options of a build, each declared once; they are the arguments of `build` and `preview`.

This module imports nothing slow, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Literal

from builder.options.declaration import option, parse_fields

if TYPE_CHECKING:
    from builder.processes.function_process import Argument, FunctionOptions
    from builder.processes.process import ProcessFunction

BATCH_BYTES: Final = 2**25  # smaller batches take more time, larger ones more memory

_GROUPS: Final = "One sequence from several files"
_MANIFEST: Final = "Labels in a manifest"
_FUNCTION: Final = "A function of your own"
_STORE: Final = "The store"
_OLD_STORE: Final = "A store that exists"
_FAILURES: Final = "Sources that fail"
_WORK: Final = "The work"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """The options of a build."""

    # fmt: off
    sources: str | PathLike[str] = field(metadata=option(None, kind="object",  # required: it has no default
        help="A folder, searched recursively, one file, or a glob pattern.").metadata)
    store: str | PathLike[str] = field(metadata=option(None, kind="object",
        help="The path or URL of the store.").metadata)
    _: KW_ONLY
    sequence_from: str | None = option(None, section=_GROUPS, metavar="REGEX",
        help=r"A regular expression that is searched in the path of each file, relative to SOURCES. The files in whose "
        r"paths its groups find the same text form one sequence, in the order of their names: '(\w+)_\d{8}\.csv' joins "
        "the daily files of each device. Named groups, such as '(?P<user>\\d+)/', become columns of the sequences.")
    manifest: str | PathLike[str] | None = option(None, section=_MANIFEST, kind="path", metavar="TABLE",
        help="A table with one row per source: CSV or Parquet.")
    key: str | None = option(None, section=_MANIFEST, metavar="COL",
        help="Its column with the path, file name or stem of each source. By default source.")
    label_column: Sequence[str] | None = option(None, section=_MANIFEST, kind="columns", metavar="COLS",
        help="Its columns that are the labels of each sequence.")
    keep: Sequence[str] | None = option(None, section=_MANIFEST, kind="columns", metavar="COLS",
        help="Its columns to keep with each sequence, such as site,age; store.sequences returns them: whole numbers as "
        "int64, or as float64 if some are missing, other numbers, bools, and text. In CSV, numbers are text if one "
        "begins with a zero, such as 007.")
    manifest_only: bool = option(False, section=_MANIFEST, kind="switch", help="Take only the sources that it lists.")
    manifest_strict: bool = option(False, section=_MANIFEST, kind="switch",
        help="Refuse a manifest that lists sources which do not exist. By default they are counted and named.")
    process: ProcessFunction | str | None = option(None, section=_FUNCTION, metavar="MODULE:FUNCTION",
        help="The function that reads a source: tabular(...) in Python, or a function that takes a path and returns "
        "(inputs, labels) or yields several such pairs, or its name MODULE:FUNCTION. If its first parameter is "
        "annotated as BinaryIO, it gets an open file instead of a path. For a sequence that is larger than memory it "
        "returns a LongSequence. Workers must be able to import it. By default tables are read, with all their "
        "columns.")
    arguments: Mapping[str, Argument] | None = option(None, section=_FUNCTION, kind="object", metavar="KEY=VALUE",
        repeated=True, flag="arg",
        help="Arguments for that function, by name: numbers, true, false, or text, which the store records.")
    missing: Literal["error", "keep"] | None = option(None,
        help="keep: NaN in the arrays of that function means a missing value; by default NaN is refused. For tables "
        "give this and the next two to tabular(...).")
    classes: str | Sequence[str] | None = option(None, kind="object",
        help="The names of labels of that function that are text: cat,dog have the codes 0 and 1, and other text is "
        "refused. With several targets one list for each, by its place, such as 0=cat,dog.")
    label_pattern: str | None = option(None,
        help="A regular expression that is searched in the path of each source, relative to SOURCES. Each group finds "
        "a number or a class, which is a label of the whole sequence, so that the function need not return labels. "
        "Names of groups are names of the targets.")
    label_axis: Literal["step", "sequence", "own"] | None = option(None, section=_FUNCTION, metavar="AXIS",
        choices=("step", "sequence", "own"),
        help="step: one label row per step; sequence: one label row per sequence; own: any number of label rows. By "
        "default the first source determines it.")
    chunk: int | str | None = option(None, section=_STORE, metavar="SIZE",
        help="Decoded bytes that are compressed together, such as 1MB. By default 256KiB. An existing store keeps its "
        "chunk size.")
    shard: int | str | None = option(None, section=_STORE, metavar="SIZE",
        help="Decoded bytes in one file. By default 64MiB.")
    codec: str | None = option(None, section=_STORE, metavar="CODEC",
        help="lz4, the default, or zstd, with a level as in zstd:5, or none; auto tries codecs on the first rows of a "
        "new store.")
    update: bool = option(False, section=_OLD_STORE, kind="switch",
        help="Build sources again that changed, or whose process function did. Their new sequences are appended, and "
        "the old ones are retired in the same commit.")
    redo: Collection[str] = option((), kind="object",
        help="Names of sources to build again in the same way, changed or not; no other sources are built then.")
    retire_missing: bool = option(False, section=_OLD_STORE, kind="switch",
        help="Retire the sequences of sources that no longer exist. If half of the sources or more are missing, this "
        "is refused: the folder may be the wrong one.")
    yes: bool = option(False, section=_OLD_STORE, kind="switch", help="Retire them even if so many are missing.")
    empty: Literal["skip", "error"] = option("skip", section=_FAILURES, metavar="WHAT", choices=("skip", "error"),
        help="What to do with an empty source: one that has no rows, of which all rows are dropped, or for which "
        "`--process` yields nothing. skip, the default: it is counted, and not tried again until it changes. error: it "
        "fails.")
    max_failures: int | str | None = option(None, section=_FAILURES, metavar="N",
        help="Stop when more sources fail: a number such as 20, or a share of the sources to process, such as 10%; "
        "with 0 at the first one. By default all may fail; in Python it is an error if no store is made.")
    workers: int | None = option(None, section=_WORK, kind="number", metavar="N",
        help="Processes on this machine; 0: work in this one. By default one per core, once that saves "
        "more time than their start takes.")
    scheduler: Any = option(None, section=_WORK, metavar="ADDRESS",
        help="The address of a dask scheduler to use instead; in Python also a dask client.")
    batch: int | str = option(BATCH_BYTES, section=_WORK, metavar="SIZE",
        help="About how many decoded bytes one task processes. A larger source is a separate task; if it has more than "
        "four times as many, the rest waits in files beside the store. By default 32MiB, and less at the end.")
    progress: bool | None = option(None, kind="object",
        help="Show the progress: a bar, or a line every 10 s if standard error is not a terminal. By default only "
        "notebooks show it.")
    on_progress: Callable[[Any], None] = option(lambda _: None, kind="object",
        help="Called with a Tally whenever there is progress.")
    # fmt: on

    def __post_init__(self) -> None:
        from builder.sources.source_list import check_sequence_from

        parse_fields(self, {"sequence_from": check_sequence_from})

    @property
    def of_function(self) -> FunctionOptions:
        """The options of a process function."""
        from builder.processes.function_process import FunctionOptions

        return FunctionOptions(
            arguments=self.arguments or {},
            missing=self.missing,
            classes=self.classes or (),
            label_pattern=self.label_pattern,
            labels_in_manifest=self.label_column is not None,
        )
