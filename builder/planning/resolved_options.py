"""The options of a build: the given ones, and for the others those that the store records."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.build_errors import NoSuchProcessError, UsageError
from builder.frames.tabular import Tabular, tabular
from builder.options.declaration import describe, differences, options_of, value_text
from builder.options.table_options import TableOptions
from builder.planning.build_options import BuildOptions
from builder.planning.provenance import OF_MANIFEST, OTHERWISE, RecordedBuild
from builder.processes.function_process import (
    FunctionOptions,
    FunctionProcess,
    Portable,
    Process,
    asks_for_file,
    bind_arguments,
)
from builder.processes.process import ProcessFunction, describe_process, load_process, load_recorded_process
from store_spec import LabelAxis, StoreError, open_store

OF_FUNCTION = ("arguments", "missing", "classes", "label_pattern")  # options of a function that a store records


def process_and_options(process: str | None, options: Mapping[str, Any], store: Path | str) -> dict[str, Any]:
    """Return the process function and its options, by names of BuildOptions; some options are also those of tables.

    Args:
        process: The name of a function; None: tables, or the function that the store records.
        options: The given arguments of `tabular`.
        store: The path of the store.
    """
    of_function = {"missing": ",".join(options.get("missing", ())) or None}
    of_function |= {name: options.get(name) for name in ("classes", "label_pattern")}
    given = _given(options)
    of_either = bool(given) and of_function.keys() >= set(given)
    if process is None and not (of_either and "function" in _recorded_process(store)):
        return {"process": tabular_from_flags(options, store), **dict.fromkeys(of_function)}
    return {"process": process, **of_function}


def tabular_from_flags(options: Mapping[str, Any], store: Path | str) -> Tabular:
    """Return a process function for tables, with the given arguments of `tabular`.

    Some options need others, such as `ffill_limit`, which needs `missing`. If a store exists, its recorded options are
    added, so that such an option can be given alone and compared with the record.
    """
    given = _given(options)
    if "na_values" in given and "decimal" not in given:
        # The decimal mark determines how the list of values is split.
        options = {"decimal": _recorded_options(store).get("decimal", "."), **options}
    try:
        return tabular(**options).only(given)
    except UsageError:
        if recorded := _recorded_options(store):
            with suppress(UsageError):  # the first error is about the given options
                return tabular(**(recorded | {name: options[name] for name in given})).only(given)
        raise


def _given(options: Mapping[str, Any]) -> list[str]:
    """Return the names of the given options of tables. `labels_in_manifest` follows from an option of the manifest."""
    return [name for name in options if name != "labels_in_manifest"]


def _recorded_options(store: Path | str) -> dict[str, Any]:
    """Return the arguments of `tabular` that a store records; empty: there is no store, or no valid record."""
    with suppress(UsageError):
        return options_from_json(_recorded_process(store).get("tabular", {}))
    return {}


def _recorded_process(store: Path | str) -> dict[str, Any]:
    """Return the record of the process function in a store; empty: there is no store, or no valid record."""
    with suppress(StoreError, UsageError):
        return RecordedBuild.of(open_store(store)).process
    return {}


def options_of_new(given: BuildOptions) -> tuple[ProcessFunction, dict[str, Any], BuildOptions]:
    """Return the process function of a first build, the record of it, and the options."""
    process, of_function = given.process, given.of_function
    _refuse_without_manifest(given, None)
    if process is None:
        process = tabular(labels_in_manifest=given.label_column is not None)
    function = load_process(process)
    record = describe_process(function, process if isinstance(process, str) else None)
    if isinstance(function, Tabular):
        _refuse_function_options(of_function)
    return function, record | of_function.to_record(), given


def options_of_old(
    recorded: RecordedBuild, given: BuildOptions
) -> tuple[ProcessFunction, dict[str, Any], BuildOptions]:
    """Return the same for a later build, as the store records it; a given option that differs is a UsageError."""
    process = given.process
    _refuse_without_manifest(given, recorded)
    function = None if process is None else load_process(process)
    tables = function if isinstance(function, Tabular) else None
    if function is None or tables is not None:
        if "tabular" in recorded.process:
            _refuse_function_options(given.of_function)
    else:
        _refuse_other_function(recorded, function, process if isinstance(process, str) else None)
    of_record: dict[str, Any] = {name: recorded.process.get(name) for name in OF_FUNCTION}
    of_record |= {name: (recorded.manifest or {}).get(one) for name, one in OF_MANIFEST.items()}
    build = replace(given, label_axis=recorded.label_axis, sequence_from=recorded.sequence_from, **of_record)
    for before, now in _all_differences(recorded, tables, build, given):
        raise UsageError(
            f"{recorded.store}: was built with {before}, but the option is now {now}; leave it out, since the store "
            f"records it, {OTHERWISE}"
        )
    try:
        if "tabular" in recorded.process:
            function = replace(tabular_from_json(recorded.process["tabular"]), text_dtype=recorded.text_dtype)
        elif function is None or tables is not None:
            function = load_recorded_process(recorded.process["function"])
    except UsageError as error:
        raise UsageError(f"{recorded.store}: {error}") from None
    return function, recorded.process, build


def as_process(function: ProcessFunction, build: BuildOptions) -> Process:
    """Return a function with its options as a process; `tabular(...)` is a process already."""
    if isinstance(function, Tabular):
        return function
    options = build.of_function
    return FunctionProcess(
        function=Portable(bind_arguments(function, options.arguments)),
        takes_file=asks_for_file(function),
        options=options,
    )


def label_axis_of(process: Process, build: BuildOptions) -> LabelAxis | None:
    """Return the label axis, if the options determine it; refuse options that contradict each other."""
    in_manifest, source = build.label_column is not None, process.options.label_source
    if in_manifest and source in {"columns", "pattern"}:
        place = "label_pattern" if source == "pattern" else "the process function"
        raise UsageError(f"labels come from {place} and from the manifest's label_column; choose one")
    if not in_manifest and source != "pattern":
        return build.label_axis or process.label_axis
    if build.label_axis not in (None, "sequence"):
        where = "a manifest (label_column)" if in_manifest else "names (label_pattern)"
        raise UsageError(
            f"label_axis={build.label_axis} (--label-axis): labels in {where} are one row per sequence; leave it out"
        )
    return build.label_axis or process.label_axis or "sequence"


def _refuse_other_function(recorded: RecordedBuild, process: ProcessFunction, given: str | None) -> None:
    """Refuse another function than the store records, unless the recorded function no longer exists.

    The record does not change, so that the bytes of the store do not depend on the number of builds.
    """
    now = describe_process(process, given)
    function = recorded.process.get("function")
    if function is not None and function in (now["function"], given):
        return
    was, instead = "tabular", "leave it out, since the store records it"
    if function is not None:
        was = f"function {function}"
        try:
            load_recorded_process(function)
        except NoSuchProcessError:
            return
        except UsageError:  # the function exists, but is called only if the user names it
            instead = f"give {function} with process (--process)"
    raise UsageError(
        f"{recorded.store}: was built with {was}, but the option is now function {now['function']}; {instead}, "
        f"{OTHERWISE}"
    )


def _refuse_function_options(of_function: FunctionOptions) -> None:
    """Refuse options of process functions if the sources are tables."""
    for given in of_function.given():
        if of_function.arguments:
            raise UsageError(f"{given} (--arg) is for a process function; name one with --process")
        raise UsageError(f"{given} is for a process function; for tables, give {given} to tabular(...)")


def _refuse_without_manifest(options: BuildOptions, recorded: RecordedBuild | None) -> None:
    if options.manifest is not None or (recorded is not None and recorded.manifest is not None):
        return
    for name in ("key", "label_column", "manifest_only", "manifest_strict", "keep"):
        if getattr(options, name) not in (None, False):
            raise UsageError(f"{name} goes with a manifest, and none is given; name it with manifest (--manifest)")


def _all_differences(
    recorded: RecordedBuild, process: Tabular | None, build: BuildOptions, given: BuildOptions
) -> Iterator[tuple[str, str]]:
    """Yield the given options that differ from the first build, as text: the first value, and the given one."""
    if process is not None:
        yield from _tabular_differences(recorded.process, process)
    before, now = {"missing": "error"} | _comparable(build), _comparable(given)
    if recorded.manifest is None and given.manifest is not None:
        now["manifest"] = Path(given.manifest)
    yield from differences(before, now, [name for name, value in now.items() if value is not None])


def _comparable(build: BuildOptions) -> dict[str, Any]:
    """Return the options that a store records, apart from those of tables, in the order in which they are compared."""
    described = describe(build)
    return {
        "label_axis": build.label_axis,
        "sequence_from": build.sequence_from,
        "manifest": None,
        **{name: described[name] for name in OF_MANIFEST},
        "manifest_only": build.manifest_only or None,
        **build.of_function.given(),
    }


def _tabular_differences(recorded: dict[str, Any], process: Tabular) -> Iterator[tuple[str, str]]:
    function = recorded.get("function")
    now, given = process.describe(), process.explicit
    if function is None:
        before = tabular().describe() | recorded["tabular"]
        yield from differences(before, now, sorted(now) if given is None else given)
    elif given is None:
        yield f"function {function}", "tabular"
    else:
        yield from ((f"function {function}", f"{name} {value_text(now[name])}") for name in given)


def tabular_from_json(recorded: Mapping[str, Any]) -> Tabular:
    """Return the process function whose `describe()` is `recorded`.

    >>> process = tabular(inputs="a,b", dtype="float32")
    >>> tabular_from_json(process.describe()) == process
    True
    """
    process = tabular(**options_from_json(recorded))
    defaults = tabular().describe()
    for name, value in process.describe().items():
        if value != recorded.get(name, defaults[name]):
            raise UsageError(f"{name} is {recorded.get(name)!r:.80}, which conflicts with the other options")
    return process


def options_from_json(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `tabular` for options as `Tabular.describe` returns them."""
    arguments: dict[str, Any] = {}
    for name, value in recorded.items():
        option = options_of(TableOptions).get(name)
        if name == "label_source":
            arguments["labels_in_manifest"] = value == "manifest"
        elif option is None or option.record == "never":
            raise UsageError(f"option {name!r:.80} is not known to this version of seqzarr; update it")
        elif not option.can_be_recorded(value):
            raise UsageError(f"{name} is {value!r:.80}, which is not a valid value")
        else:
            arguments[name] = value
    return arguments
