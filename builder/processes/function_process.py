"""A process function of the user, sent to the workers, with its labels."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from builder.formats.column_notes import Columns
from builder.formats.table import Array
from builder.labels.name_labels import parse_name_labels, target_names
from builder.labels.text_classes import parse_classes
from builder.processes.function_options import FunctionOptions
from builder.processes.text_labels import TextEncoder
from builder.sequence import SourceReader, join_results

Names = tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionProcess(SourceReader):
    """A process function of the user, with the attributes and methods of `Tabular` that a build uses."""

    function: Callable[[Path], Any]
    options: FunctionOptions = field(default_factory=FunctionOptions)
    store_targets: Names = None  # () if they have no names; None: not known yet

    is_custom = True
    has_labels_in_table = False
    takes_all_rows = True
    label_axis = text_dtype = None

    def __call__(self, path: Path) -> Any:
        """Call the function, for each file if there are several. Labels that are text become codes."""
        encoder = TextEncoder(parse_classes(self.options.classes), self.store_targets)
        if not self.files:
            return self._call(path, encoder)
        return join_results((file, self._call((self.root or Path()) / file, encoder)) for file in self.files)

    def _call(self, path: Path, encoder: TextEncoder) -> Any:
        result = self.function(path)
        if not self.options.classes or self.options.label_source != "function" or inspect.iscoroutine(result):
            return result  # `read_source` refuses coroutines
        return encoder.encode(result, str(path))

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

    def for_store(self, inputs: Names, labels: Names, columns: Sequence[tuple[str, str]] = ()) -> Self:
        """Return the process for a store with these targets."""
        del inputs, columns
        return replace(self, store_targets=labels or ())
