"""The page of a store: its content put into templates."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from builder.amounts import bytes_text, count_text, ratio_text
from builder.errors import UsageError
from builder.inspection import Shuffle
from builder.report import charts
from builder.report.content import SHOWN_FAILURES, Content, describe
from builder.report.drawings import Ribbon, name_of
from builder.report.features import RUN
from builder.report.notes import notes_on
from builder.report.splits import DRIFT, SHOWN_COLUMNS, SPREAD, steady_std
from builder.report.words import long_text, name_text, number_text, percent_text
from store_spec import open_store

SECTIONS = (
    ("lengths", "Lengths"),
    ("features", "Features"),
    ("labels", "Labels"),
    ("sequences", "Sequences"),
    ("splits", "Splits"),
    ("cleaning", "Cleaning"),
    ("kept", "Kept columns"),
    ("failures", "Failures"),
    ("retired", "Retired"),
    ("arrays", "Arrays"),
    ("shuffle", "Shuffle"),
    ("build", "Build"),
)
OPEN_FAILURES = 20  # that are seen at once
UNFOLDED = 40  # features of which the table is open
TITLED = 12  # features up to which their bars have tooltips


def write_report(
    store: str | PathLike[str],
    path: str | PathLike[str],
    *,
    shuffle: Shuffle | None = None,
    split_by: str | None = None,
) -> None:
    """Write one page of HTML that shows what a store holds. It needs nothing but itself: no network, no script.

    What comes from the tables of the store is exact, and what needs rows is from a sample of some MB, always the same;
    the page says which is which. The same store gives the same bytes. It has less than 2 MB.

    Args:
        store: Its path.
        path: The file; one that is there is replaced.
        shuffle: Windows and batches; how well an epoch of them mixes is shown. None: of windows that most sequences
            have.
        split_by: A column of sequences: the splits are those of `store.split(..., by=split_by)`.

    Raises:
        UsageError: The file cannot be written, or lies in the store; or there are no such windows or batches, or no
            such column.
        MissingStoreError: There is no store at that path.
        FormatError: What is there is not a store that this version may read.
        ChecksumError: The bytes of a chunk are not those that were written.

    >>> import tempfile, numpy as np, store_spec
    >>> folder = Path(tempfile.mkdtemp())
    >>> with store_spec.create_store(folder / "w.zarr", inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((5, 2), "float32"), np.zeros((5, 1), "float32"), source="walk-0")
    >>> write_report(folder / "w.zarr", folder / "w.html")
    >>> (folder / "w.html").read_text()[:15]
    '<!doctype html>'
    """
    opened, path = open_store(store), Path(path).absolute()
    if path.resolve().is_relative_to(opened.path.resolve()):
        raise UsageError(f"{path}: lies in the store, which has files of its own alone; write it elsewhere")
    content = describe(opened, shuffle, split_by)
    page = html_of(content).encode()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            beside.write_bytes(page)
            beside.replace(path)  # whoever has the old page open never sees half of the new one
        except OSError:
            with suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error


def html_of(content: Content) -> str:
    """Return the page that says this."""
    cleaning = content.found.cleaning
    environment = Environment(
        loader=PackageLoader("builder.report"),
        autoescape=True,  # names come from strangers
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "amount": bytes_text,
        "counted": count_text,
        "name": name_text,
        "long": long_text,
        "number": number_text,
        "percent": percent_text,
        "ratio": ratio_text,
    }
    environment.tests["ribbon"] = lambda one: isinstance(one, Ribbon)
    optional = {"cleaning": cleaning, "kept": content.kept}
    return environment.get_template("page.html").render(
        page=content,
        found=content.found,
        schema=content.schema,
        notes=tuple(notes_on(content)),
        splits=charts.SPLITS,
        sections=tuple(pair for pair in SECTIONS if pair[0] not in optional or optional[pair[0]]),
        cleaning=cleaning,
        sizes={name: tuple(getattr(split, name) for split in content.found.splits) for name in ("sequences", "steps")},
        charts=charts,
        name_of=name_of,
        steady_std=steady_std,
        titled=TITLED,
        unfolded=UNFOLDED,
        shown_failures=SHOWN_FAILURES,
        open_failures=OPEN_FAILURES,
        run=RUN,
        drift=DRIFT,
        spread=SPREAD,
        shown_columns=SHOWN_COLUMNS,
        made_by=_made_by(),
    )


def _made_by() -> str:
    try:
        return f"seqzarr {version('seqzarr')}"
    except PackageNotFoundError:  # run from its source
        return "seqzarr"
