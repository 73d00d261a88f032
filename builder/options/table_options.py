"""The options of tables: how files are read, and how their rows become sequences.

This module imports nothing slow; the modules that check options are imported when an object is created.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from builder.options.declaration import Option, describe, option, parse_fields

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Unit = Literal["s", "ms", "us", "ns"]
Duplicates = Literal["error", "first", "last", "mean"]
LabelSource = Literal["columns", "inputs", "none", "pattern", "manifest"]
NO_LABELS = ("none",)  # the value of the option `labels` for a store without labels
Join = Literal["inner", "left"]  # whether rows of a source without labels are dropped or kept

AS_TEXT: Final = ":text"  # the suffix of a column in `group_by` whose values are kept as text
COUNTS: Final = ("dropped", "filled")  # columns of sequences: dropped steps, and values that were filled in

_COLUMNS: Final = "Columns of tables"
_FILES: Final = "How files are read"
_NAMES: Final = "Labels in the file's name"
_BESIDE: Final = "Labels in a file beside it"
_TEXTS: Final = "Labels that are text"
_GROUPS: Final = "Many sequences in a file"
_TIMES: Final = "When steps were"
_MISSING: Final = "Missing values"
_CHANGES: Final = "Changes to columns"


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How sources that are tables become sequences. Values are normalised when an object is created."""

    # fmt: off
    _: KW_ONLY
    inputs: Sequence[str] = field(default=(), metadata=option(
        help="Columns of the inputs: names (open,close), ranges in file order (c1:c12), or numbers from 0 (0:23) if "
        "columns have no names. Write names with commas in double quotes. By default all columns but the labels and "
        "those that other options name.",
        section=_COLUMNS, kind="columns", metavar="COLS", null=True,
    ))
    labels: Sequence[str] = field(default=(), metadata=option(
        help="Columns of the labels, one row per step. By default the labels are the inputs. With none the store has "
        "no labels, and targets are chosen from the inputs when reading.",
        section=_COLUMNS, kind="columns", metavar="COLS", null=True,
    ))
    exclude: Sequence[str] = field(default=(), metadata=option(
        help="Columns to leave out of both.", section=_COLUMNS, kind="columns", metavar="COLS",
    ))
    dtype: DTypeLike | None = field(default=None, metadata=option(
        help="The dtype of inputs and labels, such as float32. By default that of the files; for text float32, or "
        "float64 if float32 does not keep all digits of the first source; for decimals float64.",
        section=_COLUMNS, metavar="DTYPE",
    ))
    format: str | None = field(default=None, metadata=option(
        help="The format of all sources: csv, tsv, blank, jsonl, parquet, arrow, npy, npz or netcdf. By default that "
        "of the suffix.",
        section=_FILES, metavar="FORMAT",
    ))
    delimiter: str | None = field(default=None, metadata=option(
        help=r"The character between the fields of text, such as ; or \t for a tab. By default that of the format.",
        section=_FILES, metavar="CHAR",
    ))
    decimal: str = field(default=".", metadata=option(
        help="A comma if numbers in text are written 1,5. By default a point. Numbers in manifests and in other "
        "options than --na-values always have a point.",
        section=_FILES, metavar="CHAR", record="if given",
    ))
    encoding: str | None = field(default=None, metadata=option(
        help="The encoding of text, such as latin-1 or utf-16. By default UTF-8.",
        section=_FILES, metavar="NAME", record="if given",
    ))
    comment: str | None = field(default=None, metadata=option(
        help="Lines of text that begin with this character, such as #, are left out.",
        section=_FILES, metavar="CHAR", record="if given",
    ))
    skip_lines: int = field(default=0, metadata=option(
        help="How many lines to skip before the header of text, or before its first row.",
        section=_FILES, kind="number", metavar="N",
    ))
    skip_after_header: int = field(default=0, metadata=option(
        help="How many lines to skip after the header of text, such as one of units.",
        section=_FILES, kind="number", metavar="N", record="if given",
    ))
    header: bool | None = field(default=None, metadata=option(
        help="Whether text starts with the names of its columns. By default CSV and TSV do, and blank-separated text "
        "does not.",
        section=_FILES, kind="switch",
    ))
    column_names: Sequence[str] = field(default=(), metadata=option(
        help="Names for the columns of text without a header, and of NPY files.",
        section=_FILES, kind="columns", metavar="NAMES", null=True,
    ))
    input_key: str = field(default="inputs", metadata=option(
        help="The array of an NPZ file that contains the inputs. By default inputs.", section=_FILES, metavar="KEY",
    ))
    label_key: str = field(default="labels", metadata=option(
        help="The array of an NPZ file that contains the labels: one row per step, or a single number. By default "
        "labels.",
        section=_FILES, metavar="KEY",
    ))
    label_pattern: str | None = field(default=None, metadata=option(
        help=r"A regular expression that is searched in the path of each source, relative to SOURCES, such as "
        r"'spk(\d+)'. Each group finds a number or a class, which is a label of the whole sequence.",
        section=_NAMES, metavar="REGEX",
    ))
    labels_in_manifest: bool = field(default=False, metadata=option(
        help="The labels come from a manifest, not from the sources.", kind="switch", record="never",
    ))
    labels_from: str | None = field(default=None, metadata=option(
        help=r"The file with a source's labels: 'labels/{stem}.csv' with {stem}, {name}, {parent} or {path} of the "
        r"source, or 'in/(\d+)_.* -> out/{1}.csv' with the groups of a regular expression; relative to SOURCES. "
        "--labels are then its columns, by default all. Such files are not sources.",
        section=_BESIDE, metavar="PATTERN",
    ))
    on: Sequence[str] = field(default=(), metadata=option(
        help="Columns by which the rows of both files are paired, such as time, or time=date if their names differ. By "
        "default the first row is paired with the first, and so on.",
        section=_BESIDE, kind="columns", metavar="COLS",
    ))
    join: Join = field(default="inner", metadata=option(
        help="inner, the default, leaves out rows without labels; windows span them unless --max-gap ends a sequence "
        "there. With left their labels are missing values, see --missing.",
        section=_BESIDE, choices=get_args(Join),
    ))
    label_axis: Literal["step", "own"] | None = field(default=None, metadata=option(
        help="own: the file of --labels-from has its own length, and its rows belong to the whole source.",
    ))
    classes: Sequence[str] = field(default=(), metadata=option(
        help="The names of labels that are text: cat,dog have the codes 0 and 1, and other text is refused; with "
        "several targets COL=cat,dog for each. By default the texts of a column in the order in which they first "
        "appear. For text that --process returns they are required, with several targets as 0=cat,dog.",
        section=_TEXTS, kind="list", metavar="NAMES", repeated=True,
    ))
    group_by: Sequence[str] = field(default=(), metadata=option(
        help="Rows with the same values in these columns become one sequence, adjacent or not. The values are kept "
        "with the sequence: whole numbers as int64, others as text; COL:text keeps numbers as text.",
        section=_GROUPS, kind="columns", metavar="COLS",
    ))
    time: Sequence[str] = field(default=(), metadata=option(
        help="The column with the time of each step, which is stored: time stamps, ISO 8601, or what --time-format or "
        "--time-unit says. Or two columns, a date and a time of day; or several: year,month,day,hour.",
        section=_TIMES, kind="columns", metavar="COLS",
    ))
    time_format: Sequence[str] = field(default=(), metadata=option(
        help="The format of times for Python's strptime, such as '%d.%m.%Y %H:%M'; several are tried in turn.",
        section=_TIMES, kind="list", metavar="FORMAT", repeated=True,
    ))
    time_unit: Unit | None = field(default=None, metadata=option(
        help="The unit of numbers, which count from 1970, and of stored times: s, ms, us or ns. By default ns; floats "
        "and numbers in text, which may have fractions, are always stored as ns.",
        section=_TIMES, metavar="UNIT", choices=get_args(Unit),
    ))
    time_zone: str | None = field(default=None, metadata=option(
        help="The zone of times that are written without one, such as Europe/Berlin; they are converted to UTC. By "
        "default they are stored as local times.",
        section=_TIMES, metavar="ZONE", record="if given",
    ))
    elapsed: bool = field(default=False, metadata=option(
        help="The numbers count from some start, not from 1970.", section=_TIMES, kind="switch",
    ))
    sort_time: bool = field(default=False, metadata=option(
        help="Sort the rows of each sequence by time.", section=_TIMES, kind="switch",
    ))
    duplicates: Duplicates = field(default="error", metadata=option(
        help="Which of several rows with the same time to take: the first, the last, or the mean of each column. "
        "error, the default, refuses them.",
        section=_TIMES, choices=get_args(Duplicates),
    ))
    max_gap: str | None = field(default=None, metadata=option(
        help="A longer time between two rows ends the sequence, such as 2h or 15min; another begins. Rows that "
        "--missing drops count.",
        section=_TIMES, metavar="TIME",
    ))
    every: str | None = field(default=None, metadata=option(
        help="The time between consecutive rows, such as 10s; any other is refused.",
        section=_TIMES, metavar="TIME",
    ))
    missing: Sequence[str] = field(default=(), metadata=option(
        help="What to do with missing values: error, the default; drop the step, so that windows span it; split the "
        "sequence there; keep NaN; ffill with the value before; interpolate. ffill+drop also drops what ffill cannot "
        "fill, such as leading gaps. COLS=POLICY is for some columns. With --process, error or keep.",
        section=_MISSING, kind="list", metavar="[COLS=]POLICY", repeated=True,
    ))
    ffill_limit: int | None = field(default=None, metadata=option(
        help="The most steps in a row that ffill fills.", section=_MISSING, kind="number", metavar="N",
    ))
    mask: bool = field(default=False, metadata=option(
        help="Keep which values of the inputs were filled in, for windows(..., value_mask=True).",
        section=_MISSING, kind="switch",
    ))
    na_values: Sequence[str] = field(default=(), metadata=option(
        help="Further words and numbers that mean a missing value, such as '-999,?', besides empty fields, NA, NaN, "
        "null and similar words; with --decimal , write '\"-999,0\",?'.",
        section=_MISSING, kind="columns", metavar="WORDS",
    ))
    transforms: Sequence[str] = field(default=(), metadata=option(
        help="Changes to columns, in this order, before --missing: 'scale flow=0.001', 'clip flow=0:', 'diff level' "
        "(the first row has no difference, and is left out except with --missing keep), 'log flow'.",
        kind="list",
        parts=(
            Option(
                "scale", help="Multiply columns by a number.", section=_CHANGES, metavar="COLS=FACTOR",
                repeated=True,
            ),
            Option(
                "clip", help="Raise or lower values to limits; one may be left out, as in 0:.", section=_CHANGES,
                metavar="COLS=LOW:HIGH", repeated=True,
            ),
            Option(
                "diff",
                help="Take differences to the row before; the first row is left out, except with --missing keep.",
                section=_CHANGES, metavar="COLS", repeated=True,
            ),
            Option(
                "log", help="Take natural logarithms. All four are done in the order given, before --missing.",
                section=_CHANGES, metavar="COLS", repeated=True,
            ),
        ),
    ))
    # fmt: on

    def __post_init__(self) -> None:
        from builder.labels.text_classes import format_classes, parse_classes
        from builder.options.option_syntax import missing_words
        from builder.options.table_checks import PARSERS, check

        object.__setattr__(self, "na_values", missing_words(self.na_values, self.decimal))
        parse_fields(self, PARSERS)
        object.__setattr__(self, "classes", format_classes(parse_classes(self.classes, self.na_values)))
        check(self)

    @property
    def label_source(self) -> LabelSource:
        """The origin of the labels; by default they are the inputs."""
        if self.label_pattern is not None:
            return "pattern"
        if self.labels_in_manifest:
            return "manifest"
        if tuple(self.labels) == NO_LABELS and self.labels_from is None:
            return "none"
        return "columns" if self.labels or self.labels_from is not None else "inputs"

    @property
    def changes_rows(self) -> bool:
        """Whether rows can be changed, dropped, or split into sequences."""
        return bool(self.group_by or self.time or self.missing or self.transforms or self.on or self.na_values)

    @property
    def counts(self) -> bool:
        """Whether the store has the columns `COUNTS`: steps can be dropped, values filled, or sequences split."""
        return (
            bool(self.missing or self.on or self.max_gap)
            or self.duplicates != "error"
            or any(text.startswith("diff ") for text in self.transforms)
        )

    @property
    def keeps_nan(self) -> bool:
        """Whether missing values can be stored as NaN."""
        from builder.options.option_syntax import parse_policies

        return any(policy.end == "keep" for policy in parse_policies(self.missing).every)

    def describe(self) -> dict[str, Any]:
        """Return the normalised options in a form that JSON can represent."""
        return dict(sorted((describe(self) | {"label_source": self.label_source}).items()))
