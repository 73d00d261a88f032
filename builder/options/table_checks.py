"""Normalise the values of the options of tables, and check that they are consistent."""

import codecs
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from builder.build_errors import UsageError
from builder.formats import BINARY, check_format
from builder.formats.convert import parse_dtype
from builder.formats.text_numbers import DECIMALS
from builder.labels.name_labels import check_pattern
from builder.options.declaration import options_of
from builder.options.option_syntax import (
    nanoseconds,
    normalize_duration,
    normalize_policies,
    parse_policies,
    parse_transform,
)
from builder.options.table_options import AS_TEXT, COUNTS, TableOptions
from builder.sources.label_files import LabelFilePattern

MOST_TIME_COLUMNS: Final = 6
_OF_TEXT: Final = ("delimiter", "decimal", "skip_lines", "skip_after_header", "encoding", "comment")
_OF_TIME: Final = ("time_format", "time_unit", "time_zone", "elapsed", "sort_time", "duplicates", "max_gap", "every")


def _dtype(dtype: Any) -> str:
    parsed = parse_dtype(dtype)
    assert parsed is not None
    return parsed.name


def _encoding(name: str) -> str | None:
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise UsageError(f"encoding={name!r:.80} is not known; latin-1, cp1252 and utf-16 are some") from None
    codec = codecs.lookup(name).name
    return None if codec == "utf-8" else codec


def _labels_from(text: str) -> str:
    LabelFilePattern.parse(text)
    return text


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        raise UsageError(f"time_zone={name!r:.80} is not a time zone; Europe/Berlin is one") from None
    return name


def _transforms(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(parse_transform(text)) for text in texts)


# By option: checks a value, and returns its normalised form.
PARSERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "dtype": _dtype,
    "format": check_format,
    "encoding": _encoding,
    "label_pattern": check_pattern,
    "labels_from": _labels_from,
    "time_zone": _time_zone,
    "max_gap": partial(normalize_duration, option="max_gap"),
    "every": partial(normalize_duration, option="every"),
    "missing": normalize_policies,
    "transforms": _transforms,
}


def check(options: TableOptions) -> None:
    """Refuse options that conflict, and impossible values."""
    _check_label_source(options)
    _check_files(options)
    _check_times(options)
    _check_label_files(options)
    _check_missing(options)


def _check_label_source(options: TableOptions) -> None:
    """Refuse several sources of labels, and `classes` without labels."""
    origins = {
        "labels": bool(options.labels) and options.labels_from is None,  # with labels_from these are its columns
        "labels_from": options.labels_from is not None,
        "label_pattern": options.label_pattern is not None,
        "the manifest": options.labels_in_manifest,
    }
    given = [name for name, is_given in origins.items() if is_given]
    if len(given) > 1:
        raise UsageError(f"labels come from {' and from '.join(given)}; choose one")
    if options.classes and options.label_source in ("inputs", "none"):
        raise UsageError("classes (--classes) are for labels that are text, but no labels are named; name the labels")


def _check_files(options: TableOptions) -> None:
    for option in ("skip_lines", "skip_after_header"):
        if getattr(options, option) < 0:
            raise UsageError(f"{option}={getattr(options, option)}; it is a number of lines, 0 or more")
    if options.skip_after_header and (options.header is False or options.column_names):
        raise UsageError(
            f"skip_after_header={options.skip_after_header} (--skip-after-header) is for files with a header; use "
            "skip_lines (--skip-lines) for files without one"
        )
    for option in ("delimiter", "comment"):
        mark = getattr(options, option)
        if mark is not None and (len(mark.encode()) != 1 or mark in '"\r\n'):
            raise UsageError(f"{option}={mark!r} must be one ASCII character, and no quote or line end")
    if options.decimal not in DECIMALS:
        raise UsageError(f"decimal={options.decimal!r:.80} is not a decimal mark; it is '.' or ','")
    if options.decimal == options.delimiter:
        raise UsageError(
            f"decimal={options.decimal!r} (--decimal) and delimiter={options.delimiter!r} (--delimiter) are the same, "
            "so that the end of a field is unclear; correct one of them"
        )
    for option in _OF_TEXT if options.format in BINARY else ():
        if (value := getattr(options, option)) != options_of(TableOptions)[option].default:
            raise UsageError(f"{option}={value!r} has no meaning for format={options.format!r}")
    if options.column_names and options.header:
        raise UsageError("column_names are for files without a header, but header=True")


def _check_times(options: TableOptions) -> None:
    if not options.time:
        for option in _OF_TIME:
            if getattr(options, option) != options_of(TableOptions)[option].default:
                flag = f"--{option.replace('_', '-')}"
                raise UsageError(f"{option} ({flag}) goes with time: name the column of times with --time")
        return
    if len(options.time) > MOST_TIME_COLUMNS:
        raise UsageError(
            f"time={','.join(options.time)} has {len(options.time)} columns; give one, or a date and a time, or year, "
            "month, day, hour, minute, second"
        )
    if options.elapsed and (options.time_unit is None or options.time_format or len(options.time) > 1):
        raise UsageError("elapsed is for one column of numbers; give their unit with time_unit (--time-unit)")
    if options.elapsed and options.time_zone is not None:
        raise UsageError(f"time_zone={options.time_zone} (--time-zone) is for times of day, not for elapsed times")
    for form in options.time_format:
        if not any(year in form for year in ("%Y", "%y", "%G", "%c", "%x", "%D", "%s")):
            raise UsageError(f"time_format={form!r:.80} has no year, such as %Y; see Python's strptime")
    gap, step = options.max_gap, options.every
    if gap and step and nanoseconds(gap, "max_gap") < nanoseconds(step, "every"):
        raise UsageError(f"max_gap={gap} is less than every={step}, so that each step is a gap")


def _check_label_files(options: TableOptions) -> None:
    if options.labels_from is None and (options.on or options.label_axis is not None):
        option = "on (--on)" if options.on else "label_axis (--label-axis)"
        raise UsageError(f"{option} goes with labels_from: give the files of labels with --labels-from")
    if options.join != "inner" and not options.on:
        raise UsageError(
            f"join={options.join} (--join) goes with on: name the columns by which rows are paired with --on"
        )
    if options.label_axis not in (None, "step", "own"):
        raise UsageError(f"label_axis={options.label_axis!r:.80}: for labels in another file it is step, or own")
    if options.label_axis != "own":
        return
    cuts = {
        "on (--on)": bool(options.on),
        "group_by (--group-by)": bool(options.group_by),
        "max_gap (--max-gap)": options.max_gap is not None,
        "missing=split (--missing)": any(policy.end == "split" for policy in parse_policies(options.missing).every),
    }
    for option, is_given in cuts.items():
        if is_given:
            raise UsageError(
                f"{option} and label_axis=own: labels with their own length belong to a whole source, not to its rows; "
                "leave out one or the other"
            )


def _check_missing(options: TableOptions) -> None:
    policies = parse_policies(options.missing)
    for name in options.group_by:
        if options.counts and name.removesuffix(AS_TEXT) in COUNTS:
            raise UsageError(f"group_by={name}: the store has its own column of this name; rename that of the file")
    if options.mask and not any(policy.fills for policy in policies.every):
        raise UsageError(
            "mask (--mask) keeps which values were filled in, and goes with missing=ffill or interpolate "
            "(--missing ffill); with missing=keep, windows(..., value_mask=True) works without it"
        )
    if options.ffill_limit is not None and options.ffill_limit < 1:
        raise UsageError(f"ffill_limit={options.ffill_limit}; it is a number of steps, 1 or more")
    if options.ffill_limit is not None and not any("ffill" in policy.fills for policy in policies.every):
        raise UsageError(f"ffill_limit={options.ffill_limit} goes with missing=ffill (--missing ffill)")
    if options.keeps_nan and options.dtype is not None and np.dtype(options.dtype).kind != "f":
        raise UsageError(
            f"missing=keep needs a float dtype, which has NaN, not {options.dtype}; for example --dtype float32"
        )
