"""What is asked of a process function beside its name: its arguments, NaN that is kept, labels in sources' names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from builder.build_errors import UsageError
from builder.labels.name_labels import check_pattern
from builder.labels.text_classes import format_classes, parse_classes
from builder.processes.arguments import Argument, can_be, checked_arguments, with_arguments
from builder.processes.function_process import FunctionProcess, Portable
from builder.processes.process import ProcessFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """Options of a process function.

    Args:
        arguments: That it is given, by name.
        missing: `keep`: NaN in its arrays stands for missing values; `error`, as without it: NaN is refused.
        classes: Of its labels that are text, as `format_classes` writes them.
        label_pattern: A regular expression that finds the labels in sources' names, whatever the function returns.
    """

    arguments: Mapping[str, Argument] = field(default_factory=dict)
    missing: Literal["error", "keep"] | None = None
    classes: tuple[str, ...] = ()
    label_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.missing not in (None, "error", "keep"):
            raise UsageError(
                f"missing={self.missing!r:.80} (--missing) is for tables; NaN that a process function gives is kept "
                "(--missing keep), or refused: have the function itself drop, cut or fill"
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
        """Check what was given.

        Raises:
            UsageError: It cannot be.
        """
        lists = (classes,) if isinstance(classes, str) else tuple(classes or ())
        return cls(
            arguments=checked_arguments(arguments),
            missing=missing,  # type: ignore[arg-type]  # checked when made
            classes=format_classes(parse_classes(lists)),
            label_pattern=label_pattern,
        )

    @classmethod
    def recorded(cls, process: Mapping[str, Any]) -> Self:
        """Read what a store records of a function; see `are_recorded`."""
        return cls(
            arguments=process.get("arguments") or {},
            missing=process.get("missing"),
            classes=tuple(process.get("classes") or ()),
            label_pattern=process.get("label_pattern"),
        )

    @property
    def keeps_nan(self) -> bool:
        """Whether NaN may stand for missing values."""
        return self.missing == "keep"

    @property
    def first_given(self) -> str | None:
        """What is given, in words; None: nothing is."""
        if self.arguments:
            return f"argument {next(iter(self.arguments))} (--arg)"
        given = {
            "missing": self.missing is not None,
            "classes": bool(self.classes),
            "label_pattern": self.label_pattern is not None,
        }
        return next((name for name, is_given in given.items() if is_given), None)

    def described(self) -> dict[str, Any]:
        """Return what a store records: what is given alone."""
        every = {
            "arguments": dict(self.arguments),
            "missing": self.missing if self.keeps_nan else None,
            "classes": list(self.classes),
            "label_pattern": self.label_pattern,
        }
        return {name: value for name, value in every.items() if value}

    def applied(self, function: ProcessFunction, *, in_manifest: bool) -> FunctionProcess:
        """Return the function as a process.

        Args:
            function: The function.
            in_manifest: Whether the manifest has the labels.

        Raises:
            UsageError: The function takes no such argument, or lacks one.
        """
        return FunctionProcess(
            function=Portable(with_arguments(function, self.arguments)),
            classes=self.classes,
            label_pattern=self.label_pattern,
            in_manifest=in_manifest,
            keeps_nan=self.keeps_nan,
        )

    def differences(self, held: Self) -> Iterator[tuple[str, str]]:
        """Give what is given here and is another there: what it is there, and here."""
        for name, value in self.arguments.items():
            if repr(value) != repr(held.arguments.get(name)):  # 1, 1.0 and True are not the same
                there = repr(held.arguments[name])[:80] if name in held.arguments else "not given"
                yield f"argument {name} {there}", f"{name} {value!r:.80}"
        if self.missing is not None and self.keeps_nan != held.keeps_nan:
            yield f"missing {held.missing or 'error'}", f"missing {self.missing}"
        if self.classes and self.classes != held.classes:
            there = ",".join(held.classes) or "not given"
            yield f"classes {there}", f"classes {','.join(self.classes)}"
        if self.label_pattern not in (None, held.label_pattern):
            yield f"label_pattern {held.label_pattern or 'not given'}", f"label_pattern {self.label_pattern}"


def are_recorded(process: Mapping[str, Any]) -> bool:
    """Tell whether what a store records of a function can be."""
    names = ("arguments", "missing", "classes", "label_pattern")
    arguments, missing, classes, pattern = (process.get(name) for name in names)
    if not {"function", *names}.issuperset(process):
        return False
    if arguments is not None and not (
        isinstance(arguments, dict) and all(name.isidentifier() and can_be(one) for name, one in arguments.items())
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
