"""The process function behind the command line: columns of a file in, inputs and labels out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from builder.columns import listed, parse_columns, select
from builder.convert import convert, parse_dtype, require_values, stack
from builder.errors import SourceError, UsageError
from builder.formats import ReadOptions, check_file, format_for, open_table
from builder.formats.table import Array, OpenTable, Table

LabelSource = Literal["columns", "inputs", "pattern", "manifest"]

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NO_OPTIONS = ("root", "store_inputs", "store_labels", "given")
_LISTS = ("inputs", "labels", "exclude", "column_names")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabular:
    """A process function for tables of numbers; make it with `tabular`.

    It pickles, and two of the same options are equal.
    """

    inputs: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    exclude: tuple[str, ...]
    dtype: str | None
    read: ReadOptions
    input_key: str
    label_key: str
    label_pattern: str | None
    label_source: LabelSource
    # Where the sources lie: names in errors, and what `label_pattern` sees, are relative to it.
    root: Path | None = field(default=None)
    # The columns that every source must give, in the order of the store; None: the source's own.
    store_inputs: tuple[str, ...] | None = field(default=None)
    store_labels: tuple[str, ...] | None = field(default=None)
    # The options that an old store must have been built with; the others are as it records them. None: all.
    given: tuple[str, ...] | None = field(default=None)

    def __call__(self, path: Path) -> tuple[Array, Array | None]:
        """Read one source.

        Args:
            path: Where it lies.

        Returns:
            inputs (steps, features) or (steps, *feature shape); labels (steps, targets), (targets,)
            where there is one row for the sequence, or None where the manifest has them.

        Raises:
            SourceError: It cannot be read, lacks a column, or has values that are missing, infinite, no
                numbers, or not of the dtype that was asked for.
        """
        source = self._name(path)
        if format_for(path, source, self.read) == "npz":
            return self._read_npz(path, source)
        table = open_table(path, source=source, options=self.read)
        input_names, label_names = self._choose(table, source)
        dtype = parse_dtype(self.dtype)
        wanted = dict.fromkeys((*input_names, *label_names))
        read = table.read(tuple(wanted), dtype)
        require_values(read, source)
        inputs = stack(read, input_names, dtype=dtype, source=source)
        if label_names:
            return inputs, stack(read, label_names, dtype=dtype, source=source)
        return inputs, self._other_labels(inputs, source)

    def columns(self, path: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        """Return the names of the features and of the targets of a source; None where they have no names.

        Raises:
            SourceError: As calling it would, as far as the file's header tells.
        """
        source = self._name(path)
        if format_for(path, source, self.read) == "npz":
            inputs, labels = None, None
        else:
            table = open_table(path, source=source, options=self.read)
            inputs, labels = self._choose(table, source) if table.named else (None, None)
        if self.label_pattern is not None:
            pattern = re.compile(self.label_pattern)
            labels = tuple(pattern.groupindex) if len(pattern.groupindex) == pattern.groups else None
        elif self.label_source == "inputs":
            labels = inputs
        return inputs, labels or None

    def under(self, root: Path) -> "Tabular":
        """Return the same, for sources named relative to `root`."""
        return replace(self, root=root)

    def only(self, given: Iterable[str]) -> "Tabular":
        """Return the same, of which only these options are held against those of an old store, which has the rest."""
        return replace(self, given=tuple(given))

    def for_store(self, inputs: tuple[str, ...] | None, labels: tuple[str, ...] | None) -> "Tabular":
        """Return the same for a store whose features and targets have these names.

        A source's columns are then found by name and taken in this order, whatever theirs is; where they are
        others, the source does not fit.
        """
        return replace(self, store_inputs=inputs, store_labels=labels if self.label_source == "columns" else None)

    def describe(self) -> dict[str, Any]:
        """Return the options as JSON can hold them, one form for all ways to write the same."""
        options = asdict(self)
        for not_an_option in _NO_OPTIONS:
            del options[not_an_option]
        options |= options.pop("read")
        return {name: list(value) if isinstance(value, tuple) else value for name, value in sorted(options.items())}

    def _name(self, path: Path) -> str:
        """Return what the source is called."""
        text = path.as_posix()  # whole paths as text: pathlib's own comparisons take longer than reading a small file
        return text if self.root is None else text.removeprefix(f"{self.root.as_posix().removesuffix('/')}/")

    def _choose(self, table: OpenTable, source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the input and label columns, in order."""
        groups: Mapping[str, tuple[str, ...]] = table.groups
        # A list column of unknown width can be left out all the same.
        excluded = set(select([part for part in self.exclude if groups.get(part) != ()], groups, source))
        labels = [name for name in select(self.labels or (), groups, source) if name not in excluded]
        if self.inputs is not None:
            inputs = [name for name in select(self.inputs, groups, source) if name not in excluded]
        else:
            others = [name for name in groups if name not in self.exclude]
            without = excluded.union(labels)
            inputs = [name for name in select(others, groups, source) if name not in without]
        for option, names in (("inputs", inputs), ("labels", labels)):
            if not names and (option == "inputs" or self.labels is not None):
                raise SourceError(source, f"no column is left for the {option}, after labels and exclude")
        if not table.named:
            return tuple(inputs), tuple(labels)
        return (
            _in_order_of_store(tuple(inputs), self.store_inputs, "inputs", source),
            _in_order_of_store(tuple(labels), self.store_labels, "labels", source),
        )

    def _other_labels(self, inputs: Array, source: str) -> Array | None:
        """Return the labels that are not columns."""
        if self.label_source == "inputs":
            return inputs
        if self.label_pattern is not None:
            return self._labels_in(source, self.label_pattern)
        return None

    def _labels_in(self, source: str, label_pattern: str) -> Array:
        """Return the numbers (targets,) in the source's name."""
        found = re.search(label_pattern, source)
        if found is None:
            raise SourceError(source, f"its name does not match label_pattern={label_pattern!r}")
        groups = [text or "" for text in found.groups()]
        try:
            if all(map(_WHOLE.fullmatch, groups)):
                labels = np.array([int(text) for text in groups], np.int64)
            else:
                labels = np.array([float(text) for text in groups], np.float64)
        except (ValueError, OverflowError):
            raise SourceError(
                source, f"label_pattern={label_pattern!r} finds {groups} in its name; each must be a number"
            ) from None
        names = [f"group {number + 1}" for number in range(len(groups))]
        dtype = parse_dtype(self.dtype)
        target = labels.dtype if dtype is None else dtype
        row: Array = convert(labels[None], target, names, rounds=True, source=source)[0]
        return row

    def _read_npz(self, path: Path, source: str) -> tuple[Array, Array | None]:
        """Read the two arrays of an NPZ file."""
        from builder.formats.arrays import read_npz

        if self.inputs or self.labels or self.exclude:
            advice = "name the arrays with input_key and label_key"
            raise SourceError(source, f"an NPZ file's inputs and labels are whole arrays, not columns; {advice}")
        check_file(path, source)
        own_labels = self.label_source == "inputs"
        keys = (self.input_key, self.label_key) if own_labels else (self.input_key,)
        arrays = read_npz(path, source=source, keys=keys)
        inputs = self._whole(arrays[self.input_key], f"{self.input_key} ", source)
        if not own_labels:
            return inputs, self._other_labels(inputs, source)
        labels = arrays[self.label_key]
        if not labels.ndim:
            return inputs, self._whole(labels[None], f"{self.label_key} ", source)[0]
        if len(labels) != len(inputs):
            raise SourceError(
                source,
                f"{len(inputs):,} rows of {self.input_key} but {len(labels):,} of {self.label_key}; there "
                "must be one label row per input row, or a single number",
            )
        return inputs, self._whole(labels, f"{self.label_key} ", source)

    def _whole(self, array: Array, prefix: str, source: str) -> Array:
        """Return a whole array (steps, ...) as inputs or labels, checked and converted."""
        if not array.ndim:
            raise SourceError(source, f"{prefix}holds a single value; an array of steps is needed")
        block = array[:, None] if array.ndim == 1 else array
        names = [f"{prefix}{number}" for number in range(block.shape[1])]
        if not names:
            raise SourceError(source, f"{prefix}has shape {array.shape}, so there are no columns")
        table = Table.from_block(block, names)
        require_values(table, source)
        return stack(table, names, dtype=parse_dtype(self.dtype), source=source)


def tabular(
    *,
    inputs: str | Sequence[str] | None = None,
    labels: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    dtype: DTypeLike | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    delimiter: str | None = None,
    header: bool | None = None,
    column_names: str | Sequence[str] | None = None,
    input_key: str = "inputs",
    label_key: str = "labels",
    label_pattern: str | None = None,
    labels_in_manifest: bool = False,
) -> Tabular:
    r"""Make a process function that takes columns of a table as inputs and labels.

    Columns are named "a,b,c1:c12" (a range is in file order, both ends included), or as a list; by number
    from 0 ("0:23") where a file has no names. A list column stands for its elements. Columns are found by
    name, so their order in the file does not matter. Without `labels` or another source of them, the labels
    are the inputs, as forecasting the next step needs.

    Args:
        inputs: Columns of the inputs; None takes all but labels and excluded ones.
        labels: Columns of the labels, one row per step.
        exclude: Columns to leave out of either.
        dtype: Of inputs and labels. None keeps what binary files hold, and gives float64 for text.
        format: One of `builder.formats.FORMATS`; None goes by the suffix.
        delimiter: One character between the fields of text.
        header: Whether text starts with the column names; None: CSV and TSV do, blank-separated does not.
        column_names: Names for text without a header, and for NPY files.
        input_key: The array of an NPZ file that holds the inputs.
        label_key: The array of an NPZ file that holds the labels: a row per step, or a single number.
        label_pattern: A regular expression, searched in the source's name (relative to its root, where that
            is known); each of its groups is a number, a target of the whole sequence.
        labels_in_manifest: The labels come from elsewhere, and None is returned in their place.

    Raises:
        UsageError: Options clash, or one cannot be.

    >>> process = tabular(inputs="c1:c12", label_pattern=r"spk(\d+)")
    >>> process.label_source, process.inputs
    ('pattern', ('c1:c12',))
    """
    given = {
        "labels": labels is not None,
        "label_pattern": label_pattern is not None,
        "the manifest": labels_in_manifest,
    }
    named = [name for name, is_given in given.items() if is_given]
    if len(named) > 1:
        raise UsageError(f"labels come from {' and from '.join(named)}; choose one")
    if label_pattern is not None:
        _check_pattern(label_pattern)
    label_source: LabelSource = "inputs"
    if labels is not None:
        label_source = "columns"
    elif label_pattern is not None:
        label_source = "pattern"
    elif labels_in_manifest:
        label_source = "manifest"
    parsed = parse_dtype(dtype)
    return Tabular(
        inputs=parse_columns(inputs, "inputs"),
        labels=parse_columns(labels, "labels"),
        exclude=parse_columns(exclude, "exclude") or (),
        dtype=None if parsed is None else parsed.name,
        read=ReadOptions(
            format=format,
            delimiter=delimiter,
            header=header,
            column_names=parse_columns(column_names, "column_names"),
        ),
        input_key=input_key,
        label_key=label_key,
        label_pattern=label_pattern,
        label_source=label_source,
    )


def tabular_as_described(described: Mapping[str, Any]) -> Tabular:
    """Make the process function that `Tabular.describe` described.

    Raises:
        UsageError: An option is not known to this version, or has a value that cannot be.

    >>> process = tabular(inputs="a,b", dtype="float32")
    >>> tabular_as_described(process.describe()) == process
    True
    """
    options: dict[str, Any] = dict(described)
    usual = tabular().describe()
    for name, value in options.items():
        if name not in usual:
            raise UsageError(f"option {name!r:.80} is not known to this version of seqzarr; update it")
        if not _can_be(name, value):
            raise UsageError(f"{name} is {value!r:.80}, which cannot be")
    labels_in_manifest = options.pop("label_source", None) == "manifest"
    options["exclude"] = options.get("exclude") or None  # the one list that may be empty
    made = tabular(**options, labels_in_manifest=labels_in_manifest)
    for name, value in made.describe().items():
        if value != described.get(name, usual[name]):
            raise UsageError(f"{name} is {described.get(name)!r:.80}, which does not go with the other options")
    return made


def _can_be(name: str, value: Any) -> bool:
    """Tell whether an option can have a value of that type."""
    if name in _LISTS:
        return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))
    if name in ("input_key", "label_key"):
        return isinstance(value, str)
    return value is None or isinstance(value, bool if name == "header" else str)


def _in_order_of_store(
    names: tuple[str, ...], wanted: tuple[str, ...] | None, what: str, source: str
) -> tuple[str, ...]:
    """Return the columns in the order of the store: two files may have them in different ones."""
    if wanted is None or names == wanted:
        return names
    if set(names) == set(wanted):
        return wanted
    lacking = [name for name in wanted if name not in names]
    beyond = [name for name in names if name not in wanted]
    parts = [f"{verb} {listed(some)}" for verb, some in (("lacks", lacking), ("has besides", beyond)) if some]
    raise SourceError(
        source,
        f"its columns for the {what} are not those of the store: it {' and '.join(parts)}; name the columns to take "
        f"with --{what}, or leave some out with --exclude",
    )


def _check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression, or has no group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise UsageError(f"label_pattern={pattern!r} is no regular expression: {error}") from None
    if not groups:
        raise UsageError(rf"label_pattern={pattern!r} has no group; put the number in brackets, as spk(\d+)")
