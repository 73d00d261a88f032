"""Determine the format of a source from its suffix or the option `format`, and open it."""

from dataclasses import replace
from os.path import splitext
from pathlib import Path
from typing import Final

from builder.build_errors import SourceError, UsageError, of_source
from builder.formats.arrays import open_npy
from builder.formats.arrow import open_ipc, open_parquet
from builder.formats.files import check_file
from builder.formats.json_lines import open_json_lines
from builder.formats.table import OpenTable
from builder.formats.text_table import open_text
from builder.options.table_options import TableOptions

_SUFFIXES: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "blank",
    ".dat": "blank",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".npy": "npy",
    ".npz": "npz",
    ".nc": "netcdf",
    ".nc4": "netcdf",
    ".h5": "netcdf",
    ".hdf5": "netcdf",
}
_DELIMITERS: Final = {"csv": ",", "tsv": "\t", "blank": None}
_TEXT: Final = frozenset({*_DELIMITERS, "jsonl"})  # formats that may be compressed
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}

FORMATS: Final = tuple(dict.fromkeys(_SUFFIXES.values()))
KNOWN_SUFFIXES: Final = (
    *_SUFFIXES,
    *(f"{text}{packed}" for text in (".csv", ".txt") for packed in _COMPRESSIONS),
)
BINARY: Final = frozenset({"parquet", "arrow", "npy", "npz", "netcdf"})  # formats without options of text
_UNPACKED: Final = _TEXT | {"npy"}  # formats that store rows as they are, unless the file is compressed


def check_format(name: str) -> str:
    """Return the name of a format; any other text is a UsageError."""
    if name not in FORMATS:
        raise UsageError(f"format={name!r} is not one of {', '.join(FORMATS)}")
    return name


def format_of(name: str) -> str | None:
    """Return the format of a file name's suffix; None if there is none.

    >>> format_of("a/b.CSV.gz"), format_of("a.npy.gz"), format_of("c.wav")
    ('csv', None, None)
    """
    _, suffix, compression = split_name(name)
    format_name = _SUFFIXES.get(suffix)
    return format_name if format_name in _TEXT or compression is None else None


def is_unpacked(name: str, options: TableOptions) -> bool:
    """Return whether the rows of a file are stored as they are, so that its size limits their number.

    >>> [is_unpacked(name, TableOptions()) for name in ("a.npy", "a.csv", "a.csv.gz", "a.parquet")]
    [True, True, False, False]
    """
    format_name = format_of(name) or options.format or "csv"
    return format_name in _UNPACKED and split_name(name)[2] is None


def split_name(name: str) -> tuple[str, str, str | None]:
    """Split the last part of a file's name into its stem, its suffix in lower case, and the codec of a suffix like .gz.

    >>> split_name("a/rec_1.CSV.gz"), split_name("rec.1.npy"), split_name("b")
    (('rec_1', '.csv', 'gzip'), ('rec.1', '.npy', None), ('b', '', None))
    """
    stem, suffix = splitext(name.rpartition("/")[2])  # pathlib takes longer, and this is called for every file
    compression = _COMPRESSIONS.get(suffix.lower())
    if compression is not None:
        stem, suffix = splitext(stem)
    return stem, suffix.lower(), compression


def format_for(path: Path, options: TableOptions) -> str:
    """Return the format of a source; an unknown suffix without the option `format` is a SourceError."""
    format_name = options.format or format_of(path.name) or ("csv" if options.delimiter is not None else None)
    if format_name is None:
        known = " ".join(KNOWN_SUFFIXES)
        raise SourceError(
            f"no format has the suffix {path.suffix!r}; known are {known}: give --format, or --process with a "
            "function that reads it"
        )
    return format_name


def open_table(path: Path, options: TableOptions | None = None, *, file: str | None = None) -> OpenTable:
    """Open a file of any format but NPZ, and find its columns; errors name `file`, or None for a source of its own."""
    with of_source(file):
        options = options or TableOptions()
        table = _open(path, options)
        if file is None and not options.na_values:
            return table
        return replace(table, file=file, na_values=tuple(options.na_values))


def _open(path: Path, options: TableOptions) -> OpenTable:
    format_name = format_for(path, options)
    if format_name == "npy":
        return open_npy(path, column_names=tuple(options.column_names) or None)
    check_file(path)
    compression = split_name(path.name)[2]
    if format_name in _DELIMITERS:
        delimiter = options.delimiter or _DELIMITERS[format_name]
        return open_text(path, compression=compression, delimiter=delimiter, options=options)
    if options.column_names:
        raise SourceError(f"{format_name} files contain the names of columns; column_names is for files without names")
    if format_name == "jsonl":
        return open_json_lines(path, compression=compression, options=options)
    if format_name == "parquet":
        return open_parquet(path)
    if format_name == "arrow":
        return open_ipc(path)
    if format_name == "netcdf":
        from builder.formats.netcdf import open_netcdf

        return open_netcdf(path)
    raise SourceError("an npz file is not a table: its inputs and labels are whole arrays")
