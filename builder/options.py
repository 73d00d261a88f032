"""The options of a build: those that are given, and the others as the store records them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from builder.errors import UsageError
from builder.manifest import ManifestLabels
from builder.process import Process, describe_process, load_process, load_recorded_process
from builder.recorded import ELSEWHERE, Recorded
from builder.tabular import Tabular, tabular, tabular_as_described
from store_spec.schema import LABEL_AXES, LabelAxis


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How sources become sequences.

    Args:
        process: What reads a source.
        named: What the store records of it.
        manifest: Where labels come from, and which sources there are; its path is None where the store has to tell.
        label_axis: None: the first source tells.
    """

    process: Process
    named: dict[str, Any]
    manifest: ManifestLabels | None = None
    label_axis: LabelAxis | None = None

    def __post_init__(self) -> None:
        if self.label_axis is not None and self.label_axis not in LABEL_AXES:
            raise UsageError(f"label_axis={self.label_axis!r} is not one of {', '.join(LABEL_AXES)}")
        own_labels = isinstance(self.process, Tabular) and self.process.label_source in ("columns", "pattern")
        if own_labels and self.manifest is not None and self.manifest.columns is not None:
            raise UsageError("labels come from the process function and from the manifest's label_column; choose one")


def options_of_new(
    process: Process | str | None, manifest: ManifestLabels | None, label_axis: LabelAxis | None
) -> Options:
    """Return the options of a first build.

    Raises:
        UsageError: Options clash, or there is no such function.
    """
    if manifest is not None and manifest.path is None:
        raise UsageError(f"{_first_given(manifest)} goes with a manifest, and none is given")
    if process is None:
        process = tabular(labels_in_manifest=manifest is not None and manifest.columns is not None)
    function = load_process(process)
    named = describe_process(function, process if isinstance(process, str) else None)
    return Options(process=function, named=named, manifest=manifest, label_axis=label_axis)


def options_of_old(
    recorded: Recorded, process: Process | str | None, manifest: ManifestLabels | None, label_axis: LabelAxis | None
) -> Options:
    """Return the options of a later build: as the store records them.

    Raises:
        UsageError: One that is given differs (the error has both values); or the function cannot be found.
    """
    if manifest is not None and manifest.path is None and recorded.manifest is None:
        raise UsageError(f"{_first_given(manifest)} goes with a manifest, and none is given")
    for before, now in _all_differences(recorded, process, manifest, label_axis):
        raise UsageError(
            f"{recorded.store}: was built with {before}, and now {now} is asked for; leave that option out, as the "
            f"store records it, or {ELSEWHERE}"
        )
    table = None
    if recorded.manifest is not None:
        table = ManifestLabels(
            path=None if manifest is None else manifest.path,
            key=recorded.manifest["key"],
            columns=recorded.manifest["columns"],
            only_listed=recorded.manifest["only_listed"],
        )
    function = _as_recorded(recorded) if process is None or isinstance(process, Tabular) else load_process(process)
    return Options(process=function, named=recorded.process, manifest=table, label_axis=recorded.label_axis)


def _as_recorded(recorded: Recorded) -> Process:
    try:
        if "function" in recorded.process:
            return load_recorded_process(recorded.process["function"])
        return tabular_as_described(recorded.process["tabular"])
    except UsageError as error:
        raise UsageError(f"{recorded.store}: {error}") from None


def _first_given(manifest: ManifestLabels) -> str:
    """Return the option of a manifest that is given."""
    if manifest.key is not None:
        return "key"
    return "manifest_only" if manifest.columns is None else "label_column"


def _all_differences(
    recorded: Recorded, process: Process | str | None, manifest: ManifestLabels | None, label_axis: LabelAxis | None
) -> Iterator[tuple[str, str]]:
    """Give the options that are given and differ: what each was, and what it is now."""
    if process is not None:
        yield from _process_differences(recorded.process, process)
    before: dict[str, Any] = {"label_axis": recorded.label_axis}
    now: dict[str, Any] = {"label_axis": label_axis}
    if manifest is not None and recorded.manifest is None:
        now["manifest"] = manifest.path
    elif manifest is not None and recorded.manifest is not None:
        table, columns = recorded.manifest, manifest.parts
        before |= {"key": table["key"], "label_column": table["columns"], "manifest_only": table["only_listed"] or None}
        now |= {"key": manifest.key, "label_column": columns and list(columns)}
        now |= {"manifest_only": manifest.only_listed or None}
    yield from _differences(before, now, [name for name, value in now.items() if value is not None])


def _process_differences(recorded: dict[str, Any], process: Process | str) -> Iterator[tuple[str, str]]:
    function = recorded.get("function")
    was = "tabular" if function is None else f"function {function}"
    if not isinstance(process, Tabular):
        name = describe_process(load_process(process), process if isinstance(process, str) else None)["function"]
        if function is None or function not in (name, process):
            yield was, f"function {name}"
        return
    asked, given = process.describe(), process.given
    if function is None:
        before = tabular().describe() | recorded["tabular"]
        yield from _differences(before, asked, sorted(asked) if given is None else given)
    elif given is None:
        yield was, "tabular"
    else:
        yield from ((was, f"{name} {_said(asked[name])}") for name in given)


def _differences(before: dict[str, Any], now: dict[str, Any], names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if before.get(name) != now[name]:
            yield f"{name} {_said(before.get(name))}", f"{name} {_said(now[name])}"


def _said(value: Any) -> str:
    """Write an option as its user would."""
    if value is None or value == []:
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
