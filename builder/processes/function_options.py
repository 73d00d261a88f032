"""The options of a process function: arguments, missing values, classes, and labels in the names of sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from builder.build_errors import UsageError
from builder.labels.name_labels import check_pattern
from builder.labels.text_classes import format_classes, parse_classes
from builder.processes.arguments import Argument, check_arguments, is_recordable


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """Options of a process function."""

    arguments: Mapping[str, Argument] = field(default_factory=dict)
    missing: Literal["error", "keep"] | None = None  # keep: NaN means a missing value; error, the default, refuses NaN
    classes: tuple[str, ...] = ()  # the classes of labels that are text, as `format_classes` writes them
    label_pattern: str | None = None  # a regular expression that finds the labels in the names of sources
    labels_in_manifest: bool = False

    format = labels_from = None  # options of tables

    def __post_init__(self) -> None:
        if self.missing not in (None, "error", "keep"):
            raise UsageError(
                f"missing={self.missing!r:.80} (--missing) is for tables; NaN from a process function is kept "
                "(--missing keep) or refused: drop, split or fill within the function"
            )
        if self.label_pattern is not None:
            check_pattern(self.label_pattern)

    @classmethod
    def of(
        cls,
        arguments: Mapping[str, Argument] | None,
        missing: str | None,
        classes: str | Sequence[str] | None,
        label_pattern: str | None,
    ) -> Self:
        """Check and convert the arguments of `build`."""
        lists = (classes,) if isinstance(classes, str) else tuple(classes or ())
        return cls(
            arguments=check_arguments(arguments),
            missing=missing,  # type: ignore[arg-type]  # checked when made
            classes=format_classes(parse_classes(lists)),
            label_pattern=label_pattern,
        )

    @classmethod
    def from_record(cls, process: Mapping[str, Any]) -> Self:
        """Read the record of a function in a store, which `is_valid_record` has checked."""
        return cls(
            arguments=process.get("arguments") or {},
            missing=process.get("missing"),
            classes=tuple(process.get("classes") or ()),
            label_pattern=process.get("label_pattern"),
        )

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

    @property
    def first_given(self) -> str | None:
        """The first given option, as text; None if there is none."""
        if self.arguments:
            return f"argument {next(iter(self.arguments))} (--arg)"
        if self.missing is not None:
            return "missing"
        if self.classes:
            return "classes"
        return None if self.label_pattern is None else "label_pattern"

    def to_record(self) -> dict[str, Any]:
        """Return the record for a store, which contains only given options."""
        record = {
            "arguments": dict(self.arguments),
            "missing": self.missing if self.keeps_nan else None,
            "classes": list(self.classes),
            "label_pattern": self.label_pattern,
        }
        return {name: value for name, value in record.items() if value}

    def differences(self, earlier: Self) -> Iterator[tuple[str, str]]:
        """Yield each given option that differs from an earlier build: its earlier value, and its value now."""
        for name, value in self.arguments.items():
            if repr(value) != repr(earlier.arguments.get(name)):  # by repr 1, 1.0 and True differ
                there = repr(earlier.arguments[name])[:80] if name in earlier.arguments else "not given"
                yield f"argument {name} {there}", f"{name} {value!r:.80}"
        if self.missing is not None and self.keeps_nan != earlier.keeps_nan:
            yield f"missing {earlier.missing or 'error'}", f"missing {self.missing}"
        if self.classes and self.classes != earlier.classes:
            there = ",".join(earlier.classes) or "not given"
            yield f"classes {there}", f"classes {','.join(self.classes)}"
        if self.label_pattern not in (None, earlier.label_pattern):
            yield f"label_pattern {earlier.label_pattern or 'not given'}", f"label_pattern {self.label_pattern}"


def is_valid_record(process: Mapping[str, Any]) -> bool:
    """Return whether the record of a function in a store is valid."""
    names = ("arguments", "missing", "classes", "label_pattern")
    arguments, missing, classes, pattern = (process.get(name) for name in names)
    if not {"function", *names}.issuperset(process):
        return False
    if arguments is not None and not (
        isinstance(arguments, dict)
        and all(name.isidentifier() and is_recordable(one) for name, one in arguments.items())
    ):
        return False
    if missing not in (None, "keep"):
        return False
    try:
        if pattern is not None:
            check_pattern(pattern)
        return classes is None or (
            isinstance(classes, list) and list(format_classes(parse_classes(classes))) == classes
        )
    except (UsageError, TypeError, AttributeError):
        return False
