"""Write an inspection as one self-contained HTML page, without network access or scripts.

Charts are paths of SVG, in a box one unit high that is stretched to the width of the page.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from os import PathLike
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from builder.amounts import bytes_text, count_text, number_text, percent_text, ratio_text, short_name
from builder.build_errors import UsageError
from builder.inspection import as_text
from builder.inspection.document import Inspection, inspect, notes_on
from builder.inspection.features import ARRAYS
from builder.inspection.sampling import Line
from builder.inspection.shuffle import Shuffle
from builder.inspection.values import Bin
from builder.planning.provenance import options_given

LONGEST_TEXT = 300  # characters of a reason, or of an option's value
LISTED_COLUMNS = 100  # columns of sequences
LISTED_FAILURES = 100
LISTED_OPTIONS = 100  # more than builds record; an untrusted store can have any number
WITH_CLASSES = 8  # targets whose classes are listed
COMPARED = 40  # columns in the table of splits
LEAST_HEIGHT = 0.02  # of a bar, as a share of the chart's height, so that the smallest count is visible


def write_report(
    store: str | PathLike[str],
    path: str | PathLike[str],
    *,
    shuffle: Shuffle | None = None,
    split_by: str | None = None,
) -> None:
    """Write one self-contained HTML page about a store, without network access or scripts.

    Figures from the tables of the store are exact; figures from rows use a sample of some MB, always the same one, and
    the page says so. The same store gives the same bytes, less than 2 MB.

    Args:
        store: Its path, or its URL as a str.
        path: The file, which is replaced if it exists.
        shuffle: Windows and batches, to show how well an epoch of them mixes. None: nothing is measured.
        split_by: A column of sequences: the splits are those of `store.split(..., by=split_by)`.

    Raises:
        UsageError: The file cannot be written, or is in the store; or the store has no such windows or batches, or no
            such column.
        MissingStoreError: The store does not exist.
        FormatError: The path is not a store that this version can read.
        ChecksumError: A chunk is damaged.

    >>> import tempfile, numpy as np, store_spec
    >>> folder = Path(tempfile.mkdtemp())
    >>> with store_spec.create_store(folder / "w.zarr", inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((5, 2), "float32"), np.zeros((5, 1), "float32"), source="walk-0")
    >>> write_report(folder / "w.zarr", folder / "w.html")
    >>> (folder / "w.html").read_text()[:15]
    '<!doctype html>'
    """
    write_page(inspect(store, shuffle=shuffle, split_by=split_by, rows=True), path)


def write_page(document: Inspection, path: str | PathLike[str]) -> None:
    """Write an inspection with rows as a page."""
    path = Path(path).absolute()
    if isinstance(document.store, Path) and path.resolve().is_relative_to(document.store.resolve()):
        raise UsageError(f"{path}: is inside the store, which may contain only its own files; write it elsewhere")
    page = html_of(document).encode()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(page)
        beside.replace(path)  # a browser never sees half a page
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def html_of(document: Inspection) -> str:
    """Return the page of an inspection with rows."""
    environment = Environment(
        loader=PackageLoader("builder.inspection"),
        autoescape=True,  # names are untrusted
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": bytes_text,
        "counted": count_text,
        "name": short_name,
        "long": lambda text: short_name(text, LONGEST_TEXT),
        "number": number_text,
        "percent": percent_text,
        "ratio": ratio_text,
        "bars": bars,
        "curve": curve,
    }
    features, targets = ([one for one in document.statistics if one.array == array] for array in ARRAYS)
    return environment.get_template("page.html").render(
        document=document,
        notes=tuple(notes_on(document)),
        features=features,
        targets=targets,
        compared=features if document.labels_are_inputs else features + targets,
        options=list(options_given(document.build or {}))[:LISTED_OPTIONS],
        text=as_text,
        limits={"columns": LISTED_COLUMNS, "failures": LISTED_FAILURES, "compared": COMPARED, "targets": WITH_CLASSES},
    )


def bars(bins: Sequence[Bin]) -> str:
    """Return a bar for each bin, one unit apart.

    >>> bars([(0, 1, 5), (2, 3, 0), (4, 5, 10)])
    'M.1 1V.5h.8V1zM2.1 1V0h.8V1z'
    """
    most = max(count for _, _, count in bins)
    heights = [max(LEAST_HEIGHT, count / most) if count else 0.0 for _, _, count in bins]
    return "".join(f"M{_number(at + 0.1)} 1V{_number(1 - high)}h.8V1z" for at, high in enumerate(heights) if high)


def curve(line: Line) -> str:
    """Return the area between the least and the largest values along the steps; it is a line where they are equal.

    It is interrupted where all values are missing.
    """
    low, high = line.low or 0.0, line.high or 0.0
    span = high / 2 - low / 2  # high - low can exceed float64

    def y(value: float) -> str:
        return _number(1 - (value / 2 - low / 2) / span if span else 0.5)

    path = ""
    for is_real, run in groupby(enumerate(line.spans), key=lambda one: one[1] is not None):
        if is_real:
            ends = [(_number(at + 0.5), y(span[0]), y(span[1])) for at, span in run if span is not None]
            there = [f"{x} {top}" for x, _, top in ends]
            back = [f"{x} {bottom}" for x, bottom, _ in reversed(ends)]
            path += f"M{'L'.join(there + back)}"
    return path


def _number(value: float) -> str:
    """Return a number as short text.

    >>> _number(3.0), _number(0.25), _number(0.0004)
    ('3', '.25', '0')
    """
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return text.removeprefix("0") if text.startswith("0.") else text
