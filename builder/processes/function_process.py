"""Process functions of the user: how they are sent to the workers, and where their labels come from."""

import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, BinaryIO, Self

import cloudpickle  # type: ignore[import-untyped]

from builder.build_errors import UsageError
from builder.formats.column_notes import Columns
from builder.formats.table import Array
from builder.frames.tabular import Tabular
from builder.labels.name_labels import parse_name_labels, target_names
from builder.labels.text_classes import parse_classes
from builder.processes.function_options import FunctionOptions
from builder.processes.process_code import code_alone, imported_object
from builder.processes.text_labels import TextEncoder
from builder.sequence import SourceReader, join_results
from store_spec import Schema

Names = tuple[str, ...] | None
_known_code = lru_cache(maxsize=16)(code_alone)  # of an imported object, whose code does not change


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
        if not self.options.classes or self.options.label_source != "function" or inspect.iscoroutine(result):
            return result  # `read_source` refuses coroutines
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
