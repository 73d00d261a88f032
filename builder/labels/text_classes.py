"""Labels that are text: the option `--classes`, the distinct texts of a column, and their codes.

The classes of a target get the codes 0, 1, ... in the order in which they are added. A worker assigns codes to the
classes of its batch. When the batch is registered, the coordinator adds the classes to those of the store, and labels
whose codes differ are recoded. So the codes depend only on the order of the sources.
"""

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError, UsageError
from builder.formats.arrow_modules import pa, pc
from builder.formats.column_choice import as_option, column_list, double_quote, list_names, parse_number
from builder.formats.text_numbers import (
    FALSE,
    MISSING,
    TRUE,
    is_nearly_number,
    missing_advice,
    notation_advice,
    use_point,
    use_points,
)
from store_spec import Classes
from store_spec.building import LARGEST_CLASS_NAME

MOST_CLASSES: Final = 2**16  # of a target; a column with more distinct texts has names or remarks
CODES: Final = np.dtype(np.int64)
Texts = tuple[str, ...] | None  # distinct texts of a target in a source; (): all are missing, None: numbers
ClassLists = tuple[tuple[str | None, tuple[str, ...]], ...]  # targets and their classes; None: the only target

_QUOTED_TARGET: Final = re.compile(r'\s*"((?:[^"]|"")*)"\s*=')
Recoding = tuple[NDArray[np.int64] | None, ...]  # the new codes, indexed by the old code, of each target; None: numbers


class MixedTextError(SourceError):
    """A column holds both numbers and text; `--classes` would make all of it text."""


def parse_classes(class_lists: Iterable[str], missing: Sequence[str] = MISSING) -> ClassLists:
    """Parse "cat,dog" and "species=cat,dog"; names with commas are in double quotes.

    Raises:
        UsageError: A class is empty, occurs twice, or is a missing value; or a target has two lists.

    >>> parse_classes(["species=cat,dog", 'place="Oslo, N",Rome'])
    (('species', ('cat', 'dog')), ('place', ('Oslo, N', 'Rome')))
    """
    parsed: list[tuple[str | None, tuple[str, ...]]] = []
    for text in class_lists:
        column, equals, rest = _split_target(text)
        names = [name.strip() for name in next(csv.reader([rest if equals else text], skipinitialspace=True), [])]
        target, given = column.strip() if equals else None, f"classes={text!r:.80}"
        if not names or not all(names) or target == "":
            raise UsageError(f"{given} names no class somewhere, or no column; write them as a,b,c or COL=a,b,c")
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"{given} names {name!r:.80} twice; each class has one number")
            if name in missing:
                raise UsageError(f"{given}: {name!r} means a missing value, and cannot be a class")
            _check_name(name, given, UsageError)
        if target in [other for other, _ in parsed]:
            raise UsageError(f"classes are given twice for {target or 'the only target'}; give each column one list")
        parsed.append((target, tuple(names)))
    if len(parsed) > 1 and None in [target for target, _ in parsed]:
        raise UsageError("classes of several targets: name the target of each list, as --classes COL=a,b,c")
    return tuple(parsed)


def _split_target(text: str) -> tuple[str, str, str]:
    """Split a list into its column, the mark after it, and the names; the first two are "" without a column."""
    if match := _QUOTED_TARGET.match(text):
        return match[1].replace('""', '"'), "=", text[match.end() :]
    return ("", "", text) if text.lstrip().startswith('"') else text.partition("=")


def format_classes(parsed: ClassLists) -> tuple[str, ...]:
    """Write classes in the normalised form, which `parse_classes` reads."""
    lists = []
    for target, names in parsed:
        is_plain = target is None or ("=" not in target and not target.startswith('"'))
        column = "" if target is None else f"{target if is_plain else double_quote(target)}="
        lists.append(column + _format_names(names))
    return tuple(lists)


def classes_by_target(parsed: ClassLists, targets: Sequence[str]) -> Classes:
    """Return the listed classes of each target, None for a target without a list.

    A list for an unknown target, or for no target although there are several, is a UsageError.
    """
    if parsed and parsed[0][0] is None:
        if len(targets) != 1:
            raise UsageError(
                f"classes={_format_names(parsed[0][1])!r:.80} are for one target, but there are {len(targets):,} "
                f"({list_names(targets)}); name the target, as --classes {as_option(targets[0])}=..."
            )
        return (parsed[0][1],)
    names = dict(parsed)
    for target in names:
        if target not in targets:
            raise UsageError(
                f"classes are given for {target!r:.80}, which is not a label column; {column_list(targets)}"
            )
    return tuple(names.get(target) for target in targets)


def decode_classes(labels: NDArray[Any], classes: Classes) -> NDArray[np.object_]:
    """Replace the codes in labels (..., targets) by the names of their classes."""
    texts = labels.astype(object)
    for target, names in enumerate(classes):
        if names is not None:
            texts[..., target] = np.array(names, object)[labels[..., target]]
    return texts


def unseen_class(text: str, where: str, classes: Sequence[str], *, from_user: bool, decimal: str = ".") -> SourceError:
    """Return the error for a text that is not one of the classes."""
    known = f"{'one class' if len(classes) == 1 else f'{len(classes):,} classes'} ({list_names(classes)})"
    advice = "correct it, or build to another path with --classes that name it"
    if is_number(text, decimal) and not any(is_number(name, decimal) for name in classes):
        # The message must not list the classes of the store so far, since they depend on the batch.
        why = f"is a number, but --classes names {known}" if from_user else "is a number, but the store has classes"
        why += "; all labels of a column are text, or all are numbers"
        return SourceError(f"{where}: {text!r:.80} {why}: {advice}")
    if from_user:
        return SourceError(f"{where}: {text!r:.80} is none of the {known} that --classes names; {advice}")
    return SourceError(f"{where}: {text!r:.80} is not a class of the store; a build adds it")


def is_number(text: str, decimal: str = ".") -> bool:
    """Return whether text is a number."""
    return "_" not in text and parse_number(use_point(text, decimal)) is not None


def distinct_texts(texts: Any, name: str, *, typed: bool, decimal: str = ".") -> tuple[str, ...] | None:
    """Return the distinct texts of a pyarrow column in order of appearance; None if they are numbers.

    If the column is `typed` as text, as in Parquet, its texts are never numbers.

    Raises:
        MixedTextError: Some texts are numbers, and some are not.
        SourceError: Some texts are numbers, and some nearly; or a text is too long for a name.
    """
    present = texts.drop_null()
    if not typed and len(present):
        with contextlib.suppress(pa.ArrowInvalid):
            pc.replace_substring_regex(use_points(present, decimal), r"^\+([0-9.])", r"\1").cast(pa.float64())
            return None
    classes: list[str] = pc.unique(present)[: MOST_CLASSES + 1].to_pylist()
    if not typed and classes and set(classes) <= {*TRUE, *FALSE}:
        return None
    numbers = [] if typed else [text for text in classes if is_number(text, decimal)]
    if numbers:
        word = next((text for text in classes if not is_number(text, decimal)), None)
        if word is None:
            return None  # for example digits of another script, which are refused when they are read as numbers
        advice = notation_advice(word, decimal) or ", ".join(filter(None, [missing_advice(word), "correct it"]))
        row, other = (pc.index(texts, text).as_py() + 1 for text in (word, numbers[0]))
        # A text that is nearly a number is a mistake, not a class.
        error = SourceError if is_nearly_number(word, decimal) else MixedTextError
        raise error(
            f"row {row:,}, column {name}: {word!r:.80} is not a number, and {numbers[0]!r:.80} in row {other:,} is "
            f"one; {advice}, or name all classes with --classes, so that all are text",
        )
    for text in classes:
        _check_name(text, f"column {name}", SourceError)
    return tuple(classes)


def _check_name(name: str, where: str, error: Callable[[str], Exception]) -> None:
    size = len(name.encode(errors="replace"))
    if size > LARGEST_CLASS_NAME:
        raise error(f"{where}: the text {name!r:.80} has {size:,} bytes; names of classes have {LARGEST_CLASS_NAME:,}")


def _format_names(names: Sequence[str]) -> str:
    out = io.StringIO()
    # Names with = are quoted, since = ends the name of a column.
    quoting: Literal[0, 1] = csv.QUOTE_ALL if any("=" in name for name in names) else csv.QUOTE_MINIMAL
    csv.writer(out, lineterminator="", quoting=quoting).writerow(names)
    return out.getvalue()


class ClassCodes:
    """The classes of each target.

    Args:
        classes: The classes that already have codes; None: the first source determines which targets have classes.
        class_lists: The option `classes`, for the first source.
    """

    def __init__(self, classes: Classes | None, class_lists: Sequence[str] = ()) -> None:
        self.last_texts: Mapping[str, Texts] = {}  # of the last source
        self._class_lists = class_lists
        self._codes: list[dict[str, int] | None] | None = None
        self._classes: Classes | None = None
        if classes is not None:
            self._set_classes(classes)

    @property
    def classes(self) -> Classes | None:
        """The names of the classes of each target, None for a target with numbers; None if all are numbers."""
        if self._classes is None and self._codes is not None and any(names is not None for names in self._codes):
            self._classes = tuple(None if names is None else tuple(names) for names in self._codes)
        return self._classes

    def add(self, texts_by_target: Mapping[str, Texts]) -> None:
        """Add the texts of a source, ignoring targets with numbers; UsageError if there are too many classes."""
        self.last_texts = texts_by_target
        if self._codes is None:
            self._set_classes(first_classes(texts_by_target, self._class_lists))
        for (target, texts), codes in zip(texts_by_target.items(), self._codes or (), strict=False):
            if codes is None or not texts:
                continue
            before = len(codes)
            for text in texts:
                codes.setdefault(text, len(codes))
            if len(codes) > before:
                self._classes = None
            if len(codes) > MOST_CLASSES:
                raise UsageError(
                    f"labels {target} have more than {MOST_CLASSES:,} different texts, {next(iter(codes))!r:.80} to "
                    f"{next(reversed(codes))!r:.80}, too many for classes; choose another column (what was committed "
                    "stays)"
                )

    def counts(self) -> list[int]:
        """Return the number of classes of each target, for `truncate`."""
        return [len(codes or ()) for codes in self._codes or ()]

    def truncate(self, counts: list[int]) -> None:
        """Remove the classes that were added since `counts`."""
        self._classes = None
        for codes, count in zip(self._codes or (), counts, strict=True):
            while codes is not None and len(codes) > count:
                codes.popitem()

    def recoding(self, classes: Classes, targets: Sequence[str]) -> Recoding | None:
        """Add the classes of each target of a batch, in the order of its codes; return their new codes.

        None: no code changes. Too many classes are a UsageError.
        """
        self.add(dict(zip(targets, classes, strict=True)))
        recoding = tuple(
            None if names is None or codes is None else np.array([codes[name] for name in names], np.int64)
            for names, codes in zip(classes, self._codes or (), strict=True)
        )
        is_same = all(codes is None or np.array_equal(codes, np.arange(len(codes))) for codes in recoding)
        return None if is_same else recoding

    def _set_classes(self, classes: Classes) -> None:
        self._codes = [None if names is None else {name: code for code, name in enumerate(names)} for names in classes]


def first_classes(texts_by_target: Mapping[str, Texts], class_lists: Sequence[str]) -> Classes:
    """Return the classes of a new store: those of the option `classes`, () for other text, and None for numbers.

    `texts_by_target` are those of its first usable source.
    """
    if not texts_by_target:
        return ()
    listed = classes_by_target(parse_classes(class_lists), list(texts_by_target))
    return tuple(
        names or (() if texts else None) for names, texts in zip(listed, texts_by_target.values(), strict=True)
    )


def recode_labels(labels: NDArray[Any], recoding: Recoding) -> NDArray[Any]:
    """Replace the codes in labels (..., targets).

    >>> recode_labels(np.array([[0, 7], [1, 7]]), (np.array([3, 0]), None)).tolist()
    [[3, 7], [0, 7]]
    """
    labels = labels.copy()
    for target, codes in enumerate(recoding):
        if codes is not None:
            labels[..., target] = codes[labels[..., target]]
    return labels
