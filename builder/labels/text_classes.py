"""Classes that are text: which names are given with `--classes`, and the codes of texts, or why one has none."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError, UsageError
from builder.formats.column_choice import as_option, in_quotes, listed, number_in, there_are
from builder.formats.text_numbers import (
    FALSE,
    MISSING,
    TRUE,
    if_missing,
    nearly_number,
    otherwise_written,
    with_point,
    with_points,
)
from store_spec import Classes
from store_spec.building import LARGEST_CLASS_NAME

MOST_CLASSES: Final = 2**16  # of a target: a column of more texts than that has names or remarks in it
CODES: Final = np.dtype(np.int64)
Texts = tuple[str, ...] | None  # of a target in a source, in order; (): no value, None: they are no text
Given = tuple[tuple[str | None, tuple[str, ...]], ...]  # the classes of a target; None: of the only one

_QUOTED_TARGET: Final = re.compile(r'\s*"((?:[^"]|"")*)"\s*=')


class MixedTextError(SourceError):
    """A column holds numbers, and text that is none, for which `--classes` may be meant."""


def parse_classes(given: Iterable[str], na_values: Sequence[str] = ()) -> Given:
    """Take apart "cat,dog" and "species=cat,dog"; names with commas stand in double quotes.

    Raises:
        UsageError: A class is empty, given twice, or counts as missing; or a target has two lists.

    >>> parse_classes(["species=cat,dog", 'place="Oslo, N",Rome'])
    (('species', ('cat', 'dog')), ('place', ('Oslo, N', 'Rome')))
    """
    parsed: list[tuple[str | None, tuple[str, ...]]] = []
    for text in given:
        column, equals, rest = _target(text)
        names = [name.strip() for name in next(csv.reader([rest if equals else text], skipinitialspace=True), [])]
        target = column.strip() if equals else None
        if not names or not all(names) or target == "":
            raise UsageError(
                f"classes={text!r:.80} names no class somewhere, or no column; write them as a,b,c or COL=a,b,c"
            )
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"classes={text!r:.80} names {name!r:.80} twice; each class has one number")
            if name in (*MISSING, *na_values):
                raise UsageError(f"classes={text!r:.80}: {name!r} stands for a missing value, and is no class")
            _check_name(name, f"classes={text!r:.80}", UsageError)
        if target in [other for other, _ in parsed]:
            raise UsageError(f"classes are given twice for {target or 'the only target'}; give each column one list")
        parsed.append((target, tuple(names)))
    if len(parsed) > 1 and None in [target for target, _ in parsed]:
        raise UsageError("classes of several targets: say whose each list is, as --classes COL=a,b,c")
    return tuple(parsed)


def _target(text: str) -> tuple[str, str, str]:
    """Cut off the column of a list, and the mark behind it; both "" where the list is that of the only target."""
    if found := _QUOTED_TARGET.match(text):
        return found[1].replace('""', '"'), "=", text[found.end() :]
    return ("", "", text) if text.lstrip().startswith('"') else text.partition("=")


def classes_text(parsed: Given) -> tuple[str, ...]:
    """Write classes in one form, which `parse_classes` reads."""
    return tuple(
        _joined(names) if target is None else f"{_written(target)}={_joined(names)}" for target, names in parsed
    )


def of_targets(parsed: Given, targets: Sequence[str]) -> Classes:
    """Return the classes that are given of each target, None of those without.

    Raises:
        UsageError: Classes are given for what is no target, or for one of several without saying which.
    """
    if parsed and parsed[0][0] is None:
        if len(targets) != 1:
            raise UsageError(
                f"classes={_joined(parsed[0][1])!r:.80} are of one target, and there are {len(targets):,} "
                f"({listed(targets)}); say whose they are, as --classes {as_option(targets[0])}=..."
            )
        return (parsed[0][1],)
    names = dict(parsed)
    for target in names:
        if target not in targets:
            raise UsageError(f"classes are given for {target!r:.80}, which is no label column; {there_are(targets)}")
    return tuple(names.get(target) for target in targets)


def codes_of(
    texts: Any,
    classes: Sequence[str],
    name: str,
    source: str,
    *,
    named: bool,
    before: int,
    decimal: str = ".",
) -> Any:
    """Return the codes of texts, a pyarrow column of int64.

    Args:
        texts: A pyarrow column of strings; null is missing.
        classes: The names; the code of each is its place.
        name: Of the column, for errors.
        source: For errors.
        named: Whether the user gave the classes.
        before: How many rows of the file come before these.
        decimal: What stands before decimals of numbers in it.

    Raises:
        SourceError: A text is none of the classes.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    codes = pc.index_in(texts, value_set=pa.array(classes, pa.string()))
    if codes.null_count > texts.null_count:
        row = pc.index(pc.and_(codes.is_null(), texts.is_valid()), True).as_py()
        where = f"row {before + row + 1:,}, column {name}"
        raise unseen_class(texts[row].as_py(), where, classes, source, named=named, decimal=decimal)
    return codes.cast(pa.int64())


def texts_of(labels: NDArray[Any], classes: Classes) -> NDArray[np.object_]:
    """Return labels (..., targets) with the names of classes in place of their codes."""
    texts = labels.astype(object)
    for target, names in enumerate(classes):
        if names is not None:
            texts[..., target] = np.array(names, object)[labels[..., target]]
    return texts


def unseen_class(
    text: str, where: str, classes: Sequence[str], source: str, *, named: bool, decimal: str = "."
) -> SourceError:
    """Say that a text is none of the classes."""
    known = f"{'one class' if len(classes) == 1 else f'{len(classes):,} classes'} ({listed(classes)})"
    advice = "correct it, or build to another path with --classes that name it"
    if is_number(text, decimal) and not any(is_number(name, decimal) for name in classes):
        # Which classes the store has so far depends on the batch, and what a source fails with does not.
        why = f"is a number, where --classes names {known}" if named else "is a number, where the store has classes"
        why += "; labels of one column are text throughout, or numbers"
        return SourceError(source, f"{where}: {text!r:.80} {why}: {advice}")
    if named:
        return SourceError(source, f"{where}: {text!r:.80} is none of the {known} that --classes names; {advice}")
    return SourceError(source, f"{where}: {text!r:.80} is not a class of the store; a build adds it")


def is_number(text: str, decimal: str = ".") -> bool:
    """Whether text is written as numbers are."""
    return "_" not in text and number_in(with_point(text, decimal)) is not None


def distinct(texts: Any, name: str, source: str, *, typed: bool, decimal: str = ".") -> tuple[str, ...] | None:
    """Return the different texts of a column in the order in which they appear; None where they are numbers.

    Args:
        texts: A pyarrow column of strings; null is missing.
        name: Of the column, for errors.
        source: For errors.
        typed: Whether the file says that they are text, as Parquet does; else those of numbers are numbers.
        decimal: What stands before decimals of these.

    Raises:
        MixedTextError: Some are numbers and some are not, which may be meant.
        SourceError: Some are numbers and some nearly so; or one is too long for a name.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    given = texts.drop_null()
    if not typed and len(given):
        try:
            pc.replace_substring_regex(with_points(given, decimal), r"^\+([0-9.])", r"\1").cast(pa.float64())
        except pa.ArrowInvalid:
            pass
        else:
            return None
    found: list[str] = pc.unique(given)[: MOST_CLASSES + 1].to_pylist()
    if not typed and found and set(found) <= {*TRUE, *FALSE}:
        return None
    numbers = [] if typed else [text for text in found if is_number(text, decimal)]
    if numbers:
        word = next((text for text in found if not is_number(text, decimal)), None)
        if word is None:
            return None  # in digits of another script, say: reading them says what is wrong
        advice = otherwise_written(word, decimal) or ", ".join(filter(None, [if_missing(word), "correct it"]))
        row, other = (pc.index(texts, text).as_py() + 1 for text in (word, numbers[0]))
        # What is nearly a number is a slip, and no class.
        error = SourceError if nearly_number(word, decimal) else MixedTextError
        raise error(
            source,
            f"row {row:,}, column {name}: {word!r:.80} is not a number, and {numbers[0]!r:.80} in row {other:,} is "
            f"one; {advice}, or name all classes with --classes, which takes all for text",
        )
    for text in found:
        _check_name(text, f"column {name}", lambda words: SourceError(source, words))
    return tuple(found)


def _check_name(name: str, where: str, error: Callable[[str], Exception]) -> None:
    if len(name.encode(errors="replace")) > LARGEST_CLASS_NAME:
        size = len(name.encode(errors="replace"))
        raise error(f"{where}: the text {name!r:.80} has {size:,} bytes; names of classes have {LARGEST_CLASS_NAME:,}")


def _written(target: str) -> str:
    plain = "=" not in target and not target.startswith('"')
    return target if plain else in_quotes(target)


def _joined(names: Sequence[str]) -> str:
    out = io.StringIO()
    quoting: Literal[0, 1] = (
        csv.QUOTE_ALL if any("=" in name for name in names) else csv.QUOTE_MINIMAL
    )  # = ends a column's name
    csv.writer(out, lineterminator="", quoting=quoting).writerow(names)
    return out.getvalue()
