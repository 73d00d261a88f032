"""What is done to rows, as the options say: recorded in one form for all ways to write the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from builder.build_errors import UsageError
from builder.formats.table import DType
from builder.frames.cleaning import parse_policies, policies_text
from builder.frames.durations import duration_text, nanoseconds
from builder.frames.groups import AS_TEXT
from builder.frames.iso_times import Unit
from builder.frames.transforms import parse_transform
from builder.labels.label_source import Join
from builder.sources.label_files import pairing_of

Duplicates = Literal["error", "first", "last", "mean"]

MOST_TIME_COLUMNS: Final = 6
_OF_TIME: Final = {
    "time_format": (), "time_unit": None, "time_zone": None, "elapsed": False, "sort_time": False,
    "duplicates": "error", "max_gap": None, "every": None,
}  # fmt: skip
COUNTS = ("dropped", "filled")  # columns of sequences: steps that were left out, and values that were filled in


@dataclass(frozen=True, slots=True, kw_only=True)
class RowOptions:
    """What is done to rows.

    Args:
        group_by: Columns; the rows that have the same values in them are sequences of their own.
        time: Columns that tell when each row was.
        time_format: How they are written, as `datetime.strptime` reads them; none: ISO 8601.
        time_unit: What numbers count, and what is stored; None: there are no numbers, and time stamps of text are
            stored in nanoseconds. So are numbers that are text, floats or decimals, whatever they count.
        time_zone: Of times that are written without one, as `Europe/Berlin`; they are stored as UTC.
        elapsed: Whether numbers count from some beginning, and not from 1970.
        sort_time: Whether rows are sorted by time; otherwise they must be in that order.
        duplicates: Of rows of one time: refuse them, take the first or the last, or the mean of each column, as floats.
        max_gap: A longer time between two rows ends a sequence, as `"2h"`.
        every: The time between any two rows of a sequence, as `"10s"`.
        missing: Policies, as `parse_policies` reads them.
        ffill_limit: How many steps in a row `ffill` fills at most.
        mask: Keep which values of inputs were filled in.
        transforms: Changes to columns, as `parse_transform` reads them, in this order, before the policies.
        labels_from: Which file has the labels of a source, as `Pairing.parse` reads it.
        on: Columns that pair rows with those of that file.
        join: What becomes of rows that are paired with none: `inner` leaves them out; of `left` the labels are missing.
        label_axis: `own` where its rows are paired with none.
    """

    group_by: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    time_format: tuple[str, ...] = ()
    time_unit: Unit | None = None
    time_zone: str | None = None
    elapsed: bool = False
    sort_time: bool = False
    duplicates: Duplicates = "error"
    max_gap: str | None = None
    every: str | None = None
    missing: tuple[str, ...] = ()
    ffill_limit: int | None = None
    mask: bool = False
    transforms: tuple[str, ...] = ()
    labels_from: str | None = None
    on: tuple[str, ...] = ()
    join: Join = "inner"
    label_axis: Literal["step", "own"] | None = None

    def __post_init__(self) -> None:
        policies = parse_policies(self.missing)
        object.__setattr__(self, "missing", policies_text(policies))
        object.__setattr__(self, "transforms", tuple(str(parse_transform(text)) for text in self.transforms))
        self._check_time()
        self._check_labels()
        for name in self.group_by:
            if self.counts and name.removesuffix(AS_TEXT) in COUNTS:
                raise UsageError(f"group_by={name}: a column of that name counts what is done; rename the file's")
        if self.mask and not any(policy.fills for policy in policies.every):
            raise UsageError(
                "mask (--mask) keeps which values were filled in, and goes with missing=ffill or interpolate "
                "(--missing ffill); where missing values are kept, windows(..., mask=True) needs no more"
            )
        if self.ffill_limit is None:
            return
        if self.ffill_limit < 1:
            raise UsageError(f"ffill_limit={self.ffill_limit}; it is a number of steps, 1 or more")
        if not any("ffill" in policy.fills for policy in policies.every):
            raise UsageError(f"ffill_limit={self.ffill_limit} goes with missing=ffill (--missing ffill)")

    def _check_labels(self) -> None:
        """Refuse what cannot be of the options of labels in another file."""
        if self.labels_from is not None:
            pairing_of(self.labels_from)
        elif self.on or self.label_axis is not None:
            option = "on (--on)" if self.on else "label_axis (--label-axis)"
            raise UsageError(f"{option} goes with labels_from: say with --labels-from which file has a source's labels")
        if self.join not in get_args(Join):
            raise UsageError(f"join={self.join!r:.80} is none of {', '.join(get_args(Join))}")
        if self.join != "inner" and not self.on:
            raise UsageError(
                f"join={self.join} (--join) goes with on: name the columns that rows are paired by with --on"
            )
        if self.label_axis not in (None, "step", "own"):
            raise UsageError(f"label_axis={self.label_axis!r:.80}: labels in another file are of step, or own")
        if self.label_axis != "own":
            return
        cuts = {
            "on (--on)": bool(self.on),
            "group_by (--group-by)": bool(self.group_by),
            "max_gap (--max-gap)": self.max_gap is not None,
            "missing=split (--missing)": any(policy.end == "split" for policy in parse_policies(self.missing).every),
        }
        for option, is_given in cuts.items():
            if is_given:
                raise UsageError(
                    f"{option} and label_axis=own: labels of a length of their own belong to a whole source, and no "
                    "row of theirs to one of its rows; leave out one or the other"
                )

    def _check_time(self) -> None:
        """Refuse what cannot be of the options of times; write the others in one form."""
        if not self.time:
            for option, usual in _OF_TIME.items():
                if getattr(self, option) != usual:
                    flag = f"--{option.replace('_', '-')}"
                    raise UsageError(f"{option} ({flag}) goes with time: name the column of the times with --time")
            return
        if len(self.time) > MOST_TIME_COLUMNS:
            raise UsageError(
                f"time={','.join(self.time)} has {len(self.time)} columns; it is one, or a date and a time, or "
                "year, month, day, hour, minute, second"
            )
        for option, kinds in (("time_unit", get_args(Unit)), ("duplicates", get_args(Duplicates))):
            if (value := getattr(self, option)) not in (None, *kinds):
                raise UsageError(f"{option}={value!r:.80} is none of {', '.join(kinds)}")
        if self.elapsed and (self.time_unit is None or self.time_format or len(self.time) > 1):
            raise UsageError("elapsed is for one column of numbers; say what they count with time_unit (--time-unit)")
        if self.time_zone is not None:
            self._check_zone(self.time_zone)
        for form in self.time_format:
            if not any(year in form for year in ("%Y", "%y", "%G", "%c", "%x", "%D", "%s")):
                raise UsageError(f"time_format={form!r:.80} has no year, as %Y; see Python's strptime")
        self._check_durations()

    def _check_zone(self, zone: str) -> None:
        """Refuse what is no time zone."""
        try:
            ZoneInfo(zone)
        except (OSError, ValueError, ZoneInfoNotFoundError):
            raise UsageError(f"time_zone={zone!r:.80} is no zone; Europe/Berlin is one") from None
        if self.elapsed:
            raise UsageError(f"time_zone={zone} (--time-zone) is for times of day, and elapsed has none")

    def _check_durations(self) -> None:
        """Write lengths of time in one form."""
        for option in ("max_gap", "every"):
            if (text := getattr(self, option)) is not None:
                object.__setattr__(self, option, duration_text(text, option))
        if self.max_gap and self.every and nanoseconds(self.max_gap, "") < nanoseconds(self.every, ""):
            raise UsageError(f"max_gap={self.max_gap} is less than every={self.every}, so that each step is a gap")

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.group_by or self.time or self.missing or self.transforms or self.on)

    @property
    def counts(self) -> bool:
        """Whether steps can be left out, values filled, or sequences split, so that the store counts them."""
        return (
            bool(self.missing or self.on or self.max_gap)
            or self.duplicates != "error"
            or any(text.startswith("diff ") for text in self.transforms)
        )

    @property
    def keeps(self) -> bool:
        """Whether NaN can stand for missing values in the store."""
        return any(policy.end == "keep" for policy in parse_policies(self.missing).every)


def float_dtype_needed(options: RowOptions, dtype: DType | None) -> None:
    """Refuse a dtype that cannot hold NaN where the options keep it.

    Raises:
        UsageError: It is of whole numbers or bool.
    """
    if options.keeps and dtype is not None and np.dtype(dtype).kind != "f":
        raise UsageError(f"missing=keep needs a dtype of floats, which have NaN, and not {dtype}; as --dtype float32")
