"""The shape of a window: its input rows, its label, and the steps it needs for them; and the options of windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from store_spec.errors import WindowError
from store_spec.reading.argument_checks import INT64_MAX, checked_fractions, whole_number
from store_spec.reading.row_options import RowOptions

Target = Literal["future", "last", "aligned", "sequence"]
Short = Literal["drop", "pad", "error"]
Phase = Literal["first", "random"]
MissingValues = Literal["keep", "skip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShape:
    """The rows that a window takes from a sequence.

    A window at step `s` has rows at the steps `s`, `s + sampling_rate`, `s + 2 * sampling_rate`, ...; the first
    `window` of them are its input rows. Its label is

    * `"future"`: the `horizon` label rows that follow the last input row and `lead` further rows,
    * `"last"`: the label row of the last input row,
    * `"aligned"`: the label row of each input row,
    * `"sequence"`: the label of the whole sequence.

    The last three ignore `horizon` and `lead`.

    Args:
        window: Input rows in a window, at least 1.
        stride: Steps between the starts of neighbouring windows, at least 1.
        horizon: Label rows in a `"future"` label, at least 1.
        lead: Rows between the last input row and a `"future"` label, at least 0; or -1, and the label begins at the
            last input row.
        sampling_rate: Steps between neighbouring rows of a window and its label, at least 1.
        target: Which label rows belong to a window.
        short: What to do with a sequence of fewer than `least_span` usable steps. `"drop"`: it has no windows; if all
            sequences are shorter, there are no windows at all, and no batches. `"error"`: raise a `WindowError`.
            `"pad"`: it has one window, at its first usable step, if there is room for one input row and the label (with
            `pad_end`, for one input row and the first row of the label); see `WindowIndex.real_rows`.
        pad_end: Windows may extend beyond the last usable step. A `"future"` label needs its first row only, and the
            others are padded; for `"aligned"` and `"sequence"`, a window needs its first input row only. Not for
            `"last"`.
        steps: `(low, high)`, with 0 <= low < high <= 1: of a sequence of n steps, only those from `floor(n * low)` to
            `floor(n * high)`, the latter excluded, are usable for windows and their labels. The products are first
            rounded to six decimals, so 0.29 of 100 steps is 29. None: all steps are usable.
        least_window: For windows of random length: in batches, each window has at least `least_window` real input rows
            and at most `window`; the seed and the epoch determine how many. The rows after them are padding, and the
            label follows the last real row. None: windows have `window` rows.
        phase: Where the first window of a sequence starts. `"first"`: at its first usable step. `"random"`: in
            batches, at one of its first `stride` usable steps, chosen anew in each epoch; so with a stride above 1 all
            steps are used over time.

    Raises:
        WindowError: A field is not as above, or the span does not fit int64.

    >>> shape = WindowShape(window=3, sampling_rate=2, lead=1, horizon=2, stride=3)
    >>> shape.input_span, shape.label_span, shape.span, shape.label_steps
    (5, 6, 11, 2)
    """

    window: int
    stride: int = 1
    horizon: int = 1
    lead: int = 0
    sampling_rate: int = 1
    target: Target = "future"
    short: Short = "drop"
    pad_end: bool = False
    steps: tuple[float, float] | None = None
    least_window: int | None = None
    phase: Phase = "first"

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("stride", 1), ("horizon", 1), ("lead", -1), ("sampling_rate", 1)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least, INT64_MAX))
        if self.least_window is not None:
            least = whole_number("the first length in window", self.least_window, 1, self.window)
            object.__setattr__(self, "least_window", least)
        for name, allowed in (("target", get_args(Target)), ("short", get_args(Short)), ("phase", get_args(Phase))):
            if getattr(self, name) not in allowed:
                choices = ", ".join(f'"{choice}"' for choice in allowed)
                raise WindowError(f"{name} is {getattr(self, name)!r}; it must be one of {choices}")
        object.__setattr__(self, "pad_end", bool(self.pad_end))
        if self.pad_end and self.target == "last":
            raise WindowError('pad_end=True with target="last"; use "future", "aligned" or "sequence"')
        if self.steps is not None:
            object.__setattr__(self, "steps", checked_fractions(self.steps))
        if self.span > INT64_MAX:
            raise WindowError(
                f"window={self.window:,} with sampling_rate={self.sampling_rate:,}, lead={self.lead:,} and"
                f" horizon={self.horizon:,} spans {self.span:,} steps, but at most {INT64_MAX:,} are allowed"
            )

    def check_axis(self, axis: str, where: object) -> None:
        """Check that the target fits the label axis of the targets; `where` is the store."""
        if axis == "own":
            raise WindowError(
                f"{where}: labels on the 'own' axis belong to no step, so windows have none; "
                'use store.padded or store.read, or targets="inputs"'
            )
        if axis == "step" and self.target == "sequence":
            raise WindowError(
                f'{where}: target="sequence" with a label for each step; use target="last", "aligned" or "future"'
            )
        if axis == "sequence" and self.target != "sequence":
            raise WindowError(
                f'{where}: target="{self.target}" with one label for a whole sequence; use target="sequence"'
            )

    @property
    def input_span(self) -> int:
        """Steps from a window's first input row to its last, both included."""
        return (self.window - 1) * self.sampling_rate + 1

    @property
    def label_span(self) -> int:
        """Steps from a window's last input row to the end of its label."""
        return (self.lead + self.horizon) * self.sampling_rate if self.target == "future" else 0

    @property
    def span(self) -> int:
        """Steps that a window and its label take from a sequence."""
        return self.input_span + self.label_span

    @property
    def label_offset(self) -> int:
        """Steps from a window's last input row to the first row of a `"future"` label."""
        return (1 + self.lead) * self.sampling_rate

    @property
    def horizon_span(self) -> int:
        """Steps from the first row of a `"future"` label to its last, both included."""
        return (self.horizon - 1) * self.sampling_rate + 1

    @property
    def least_label_span(self) -> int:
        """Steps from a window's last input row to the last row of its label that is never padding."""
        if self.pad_end:
            return self.label_offset if self.target == "future" else 0
        return self.label_span

    @property
    def least_span(self) -> int:
        """Steps that a sequence needs for a window, if `short` is not `"pad"`."""
        return 1 if self.pad_end and self.target != "future" else self.input_span + self.least_label_span

    @property
    def pads_inputs(self) -> bool:
        """Whether input rows, and those of an `"aligned"` label, may be padding."""
        return self.short == "pad" or self.least_window is not None or (self.pad_end and self.target != "future")

    @property
    def pads_labels(self) -> bool:
        """Whether rows of a `"future"` label may be padding."""
        return self.pad_end and self.target == "future"

    @property
    def span_beyond(self) -> int:
        """The largest number of steps that a window may reach beyond its sequence."""
        if self.pad_end:
            return self.span
        return self.input_span if self.short == "pad" else 0

    @property
    def context_span(self) -> int:
        """Steps from a window's first input row to its first label row, for windows of the least length."""
        to_last_row = ((self.least_window or self.window) - 1) * self.sampling_rate
        if self.target == "future":
            return to_last_row + self.label_offset
        return to_last_row if self.target == "last" else 0

    @property
    def label_steps(self) -> int | None:
        """Rows in a label; None if a label is one row without a step axis."""
        if self.target == "future":
            return self.horizon
        return self.window if self.target == "aligned" else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowOptions(RowOptions):
    """The arguments of `Windows`, apart from the sequences and the shape."""

    future: Sequence[str | int] | None = None
    missing: MissingValues = "keep"
    context: bool = False
