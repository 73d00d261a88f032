"""Process functions of the user: their options, how they are sent to the workers, and where their labels come from."""

import inspect
import json
import math
import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, Self

import cloudpickle  # type: ignore[import-untyped]

from builder.build_errors import UsageError
from builder.formats.column_notes import Columns
from builder.formats.table import Array
from builder.frames.tabular import Tabular
from builder.labels.name_labels import check_pattern, parse_name_labels, target_names
from builder.labels.text_classes import format_classes, parse_classes
from builder.processes.process_code import code_alone, imported_object
from builder.processes.text_labels import TextEncoder
from builder.sequence import SourceReader, join_results
from store_spec import Schema

Argument = bool | int | float | str
Names = tuple[str, ...] | None
_known_code = lru_cache(maxsize=16)(code_alone)  # of an imported object, whose code does not change


def parse_arguments(texts: Iterable[str]) -> dict[str, Argument]:
    """Parse `KEY=VALUE`. Values are numbers in JSON, true, false, or text, which may be in quotes.

    >>> parse_arguments(["rate=8000", "gain=0.5", "mono=true", "name=007", 'id="7"'])
    {'rate': 8000, 'gain': 0.5, 'mono': True, 'name': '007', 'id': '7'}
    """
    arguments: dict[str, Argument] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"arg {text!r:.80} is not of the form KEY=VALUE, as rate=8000")
        key = key.strip()
        if key in arguments:
            raise UsageError(f"arg {key} is given twice, as {arguments[key]!r:.80} and as {value!r:.80}")
        arguments[key] = value.strip()
        with suppress(ValueError, RecursionError):
            parsed = json.loads(value)
            arguments[key] = parsed if is_recordable(parsed) else value.strip()
    return arguments


def check_arguments(arguments: Mapping[str, Argument]) -> dict[str, Argument]:
    """Return arguments sorted by name, as a store records them; refuse names and values that it cannot record."""
    for key, value in arguments.items():
        if not str(key).isidentifier():
            raise UsageError(f"argument {key!r:.80} of the process function (--arg) is not a valid name in Python")
        if not is_recordable(value):
            raise UsageError(
                f"argument {key} of the process function is {value!r:.80} ({type(value).__name__}); a store records "
                "text, whole numbers, finite floats and bools"
            )
    return dict(sorted(arguments.items()))


def is_recordable(value: object) -> bool:
    """Return whether a store can record a value."""
    return type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def bind_arguments(function: Callable[..., Any], arguments: Mapping[str, Argument]) -> Callable[[Path], Any]:
    """Bind arguments to a process function; refuse unknown arguments, and missing ones."""
    if not arguments:
        return function
    with suppress(TypeError, ValueError):  # some callables have no signature
        signature = inspect.signature(function)
        try:
            signature.bind(Path(), **arguments)
        except TypeError as error:
            given, takes = ", ".join(arguments), ", ".join(signature.parameters)
            raise UsageError(
                f"the process function cannot take the arguments {given} (--arg): {error}; it takes {takes:.300}"
            ) from None
    return partial(function, **arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """Options of a process function."""

    arguments: Mapping[str, Argument] = field(default_factory=dict)  # the store records them, and each call passes them
    missing: Literal["error", "keep"] | None = None  # keep: NaN means a missing value; error, the default, refuses NaN
    classes: Sequence[str] = ()  # the classes of labels that are text, normalised by `format_classes`
    label_pattern: str | None = None  # a regular expression that finds the labels in the names of sources
    labels_in_manifest: bool = False

    format = labels_from = None  # options of tables

    def __post_init__(self) -> None:
        lists = (self.classes,) if isinstance(self.classes, str) else tuple(self.classes)
        object.__setattr__(self, "arguments", check_arguments(self.arguments))
        object.__setattr__(self, "classes", format_classes(parse_classes(lists)))
        if self.missing not in (None, "error", "keep"):
            raise UsageError(
                f"missing={self.missing!r:.80} (--missing) is for tables; NaN from a process function is kept "
                "(--missing keep) or refused: drop, split or fill within the function"
            )
        if self.label_pattern is not None:
            check_pattern(self.label_pattern)

    @property
    def keeps_nan(self) -> bool:
        """Whether missing values are stored as NaN."""
        return self.missing == "keep"

    @property
    def label_source(self) -> Literal["pattern", "manifest", "function"]:
        """The origin of the labels."""
        if self.label_pattern is not None:
            return "pattern"
        return "manifest" if self.labels_in_manifest else "function"

    def given(self) -> dict[str, Any]:
        """Return the given options by their names, as values that can be compared with those of another build."""
        # By repr 1, 1.0 and True differ.
        arguments = {f"argument {name}": repr(value) for name, value in self.arguments.items()}
        others = {"missing": self.missing, "classes": list(self.classes), "label_pattern": self.label_pattern}
        return arguments | {name: value for name, value in others.items() if value}

    def to_record(self) -> dict[str, Any]:
        """Return the record for a store, which contains only given options."""
        record = {
            "arguments": dict(self.arguments),
            "missing": self.missing if self.keeps_nan else None,
            "classes": list(self.classes),
            "label_pattern": self.label_pattern,
        }
        return {name: value for name, value in record.items() if value}


def is_valid_record(process: Mapping[str, Any]) -> bool:
    """Return whether the record of a function in a store is valid."""
    given = {name: value for name, value in process.items() if value is not None and name != "function"}
    try:
        return FunctionOptions(**given).to_record() == given
    except (UsageError, TypeError, AttributeError):
        return False


class Portable:
    """A function that is sent to the workers as bytes, and unpickled when it is called.

    The call raises a UsageError if a worker lacks a module, or imported it before it was edited. (A worker that cannot
    unpickle a message would request it again endlessly.)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Callable[..., Any] | None = function
        self._data = b""
        self._code: str | None = None  # of the function where it was pickled

    def __call__(self, source: Path | BinaryIO) -> Any:
        """Call the function."""
        if self._function is None:
            self._function = self._load()
        return self._function(source)

    def _load(self) -> Callable[..., Any]:
        try:
            function: Callable[..., Any] = pickle.loads(self._data)  # noqa: S301  # made by our own coordinator
        except Exception as error:
            raise UsageError(
                f"the process function cannot be imported on a worker: {type(error).__name__}: {error}; "
                "its module must be installed there, or be in the folder in which the build is started, on a disk that "
                "the worker has too"
            ) from error
        if None not in (self._code, code := _known_code(imported_object(function))) and code != self._code:
            raise UsageError(
                "this process and a worker have different versions of the process function: one of them imported it "
                "before it was edited; start that one again"
            )
        return function

    def __getstate__(self) -> tuple[bytes, str | None]:
        if not self._data:
            try:
                self._data = cloudpickle.dumps(self._function)
            except Exception as error:  # the user's objects can raise anything
                raise UsageError(
                    f"the process function cannot be sent to workers: {type(error).__name__}: {error}; create objects "
                    "that cannot be pickled inside the function, or work in this process: workers=0 (--workers 0)"
                ) from error
            self._code = None if self._function is None else code_alone(imported_object(self._function))
        return self._data, self._code

    def __setstate__(self, state: tuple[bytes, str | None]) -> None:
        self._function, (self._data, self._code) = None, state


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionProcess(SourceReader):
    """A process function of the user, with the attributes and methods of `Tabular` that a build uses."""

    function: Callable[..., Any]
    takes_file: bool = False  # the function takes an open file, not a path
    options: FunctionOptions = field(default_factory=FunctionOptions)
    store_targets: Names = None  # () if they have no names; None: not known yet

    # Attributes of `Tabular`.
    is_custom = takes_all_rows = True
    has_labels_in_table = False
    label_axis = text_dtype = None

    def __call__(self, source: Path | BinaryIO) -> Any:
        """Call the function, for each file if there are several. Labels that are text become codes.

        `source` is a path, or an open file if `takes_file`, which stays open until the result is used up.
        """
        encoder = TextEncoder(parse_classes(self.options.classes), self.store_targets)
        if not self.files:
            return self._call(source, encoder)
        return join_results((file, self._call((self.root or Path()) / file, encoder)) for file in self.files)

    def _call(self, source: Path | BinaryIO, encoder: TextEncoder) -> Any:
        result = self.function(source)
        if not self.options.classes or self.options.label_source != "function":
            return result
        return encoder.encode(result, str(source if isinstance(source, Path) else source.name))

    def labels_in_name(self, source: str) -> Array | None:
        """Return the labels (targets,) in the name of a source; None: labels come from elsewhere."""
        if self.options.label_pattern is None:
            return None
        return parse_name_labels(
            source, self.options.label_pattern, None, self.store_classes, from_user=bool(self.options.classes)
        )

    def label_file(self, source: str) -> None:
        """Return None: only tables have label files."""
        del source

    def columns(self, path: Path) -> tuple[Columns, Columns]:
        """Return the names of targets in the pattern; other names come with the sequences."""
        del path
        return Columns(), Columns(
            None if self.options.label_pattern is None else target_names(self.options.label_pattern)
        )

    def classes_in(self, path: Path) -> dict[str, Names]:
        """Return nothing: the user names the classes, since calling the function may take long."""
        del path
        return {}

    def for_schema(self, schema: Schema) -> Self:
        """Return the process for a store with this schema."""
        return replace(self, store_targets=schema.labels.names or (), store_classes=schema.labels.classes)


def asks_for_file(function: Callable[..., Any]) -> bool:
    """Return whether the first parameter of a process function is annotated as `BinaryIO` or `IO[bytes]`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some callables have no signature
        return False
    annotation = next((one.annotation for one in parameters), None)
    if isinstance(annotation, str):  # it is not evaluated, since its names may be imported for type checkers only
        return annotation.strip("'\"").rpartition(".")[2] in ("BinaryIO", "IO[bytes]")
    return annotation in (BinaryIO, IO[bytes])


Process = Tabular | FunctionProcess  # makes sequences of a source
