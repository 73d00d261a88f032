"""Which format a source has, by its suffix or by what the user says, and opening it."""

from pathlib import Path
from typing import Final

from builder.build_errors import SourceError, UsageError
from builder.formats.files import check_file as check_file
from builder.formats.table import OpenTable
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
_TEXT: Final = frozenset({*_DELIMITERS, "jsonl"})  # may be packed
_COMPRESSIONS: Final = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}

FORMATS: Final = tuple(dict.fromkeys(_SUFFIXES.values()))
KNOWN_SUFFIXES: Final = (
    *_SUFFIXES,
    *(f"{text}{packed}" for text in (".csv", ".txt") for packed in _COMPRESSIONS),
)
BINARY: Final = frozenset({"parquet", "arrow", "npy", "npz", "netcdf"})  # to which options of text mean nothing


def check_format(format: str) -> None:  # noqa: A002 - the option's name
    """Raise UsageError unless it is a format."""
    if format not in FORMATS:
        raise UsageError(f"format={format!r} is none of {', '.join(FORMATS)}")


def format_of(name: str) -> str | None:
    """Return the format that the suffix of a file's name stands for, if any.

    >>> format_of("a/b.CSV.gz"), format_of("a.npy.gz"), format_of("c.wav")
    ('csv', None, None)
    """
    stem, compression = _split_compression(name)
    suffix = _suffix(stem)
    found = _SUFFIXES.get(suffix)
    return found if found in _TEXT or compression is None else None


def stem_of(name: str) -> str:
    """Return the last part of a source's name without its suffix, `.csv.gz` being one.

    >>> stem_of("a/rec_1.csv.gz"), stem_of("rec.1.npy")
    ('rec_1', 'rec.1')
    """
    stem, _ = _split_compression(name.rpartition("/")[2])
    return stem[: len(stem) - len(_suffix(stem))]


def format_for(path: Path, source: str, options: TableOptions) -> str:
    """Return the format to read a source as.

    Raises:
        SourceError: The options do not say, and its suffix is not known.
    """
    found = options.format or format_of(path.name)
    if found is None and options.delimiter is not None:
        return "csv"
    if found is None:
        known = " ".join(KNOWN_SUFFIXES)
        raise SourceError(
            source,
            f"no format has the suffix {path.suffix!r}; known are {known}: give --format, or --process with a "
            "function that reads it",
        )
    return found


def open_table(path: Path, *, source: str, options: TableOptions | None = None) -> OpenTable:
    """Open a source of any format but NPZ, and find its columns.

    Args:
        path: Where it lies.
        source: What to call it in errors.
        options: How to read it.

    Raises:
        SourceError: It is not there, is empty or broken, or has no columns of different names.
    """
    options = options or TableOptions()
    found = format_for(path, source, options)
    if found == "npy":
        from builder.formats.arrays import open_npy

        return open_npy(path, source=source, column_names=tuple(options.column_names) or None)
    check_file(path, source)
    if found in _DELIMITERS:
        from builder.formats.text_table import open_text

        # A delimiter says more than the suffix .txt does.
        blanks = found == "blank" and options.delimiter is None
        return open_text(
            path,
            source=source,
            compression=_split_compression(path.name)[1],
            delimiter=None if blanks else options.delimiter or _DELIMITERS[found] or ",",
            options=options,
        )
    if options.column_names:
        raise SourceError(source, f"{found} files name their columns themselves; column_names are for those without")
    if found == "jsonl":
        from builder.formats.json_lines import open_json_lines

        compression = _split_compression(path.name)[1]
        return open_json_lines(path, source=source, compression=compression, options=options)
    if found == "parquet":
        from builder.formats.arrow import open_parquet

        return open_parquet(path, source=source)
    if found == "arrow":
        from builder.formats.arrow import open_ipc

        return open_ipc(path, source=source)
    if found == "netcdf":
        from builder.formats.netcdf import open_netcdf

        return open_netcdf(path, source=source)
    raise SourceError(source, "an npz file is no table: its inputs and labels are whole arrays")


def _split_compression(name: str) -> tuple[str, str | None]:
    """Cut a suffix as `.gz` off a name, and name the codec."""
    for suffix, codec in _COMPRESSIONS.items():
        if name.lower().endswith(suffix):
            return name[: -len(suffix)], codec
    return name, None


def _suffix(name: str) -> str:
    """Return the suffix in lower case; like pathlib's, but it is asked for every file of a folder."""
    last = name.rpartition("/")[2]
    dot = last.rfind(".")
    return last[dot:].lower() if dot > 0 else ""
