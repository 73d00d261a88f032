"""The options of tables: how files are read, and how their rows become sequences.

This module imports nothing slow; the modules that check options are imported when an object is created.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
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
    inputs: Sequence[str] = option((), section=_COLUMNS, kind="columns", metavar="COLS", null=True,
        help="Columns of the inputs: names (open,close), ranges in file order (c1:c12), or numbers from 0 (0:23) if "
        "columns have no names. Write names with commas in double quotes. By default all columns but the labels and "
        "those that other options name.")
    labels: Sequence[str] = option((), section=_COLUMNS, kind="columns", metavar="COLS", null=True,
        help="Columns of the labels, one row per step. By default the labels are the inputs. With none the store has "
        "no labels, and targets are chosen from the inputs when reading.")
    exclude: Sequence[str] = option((), section=_COLUMNS, kind="columns", metavar="COLS",
        help="Columns to leave out of both.")
    dtype: DTypeLike | None = option(None, section=_COLUMNS, metavar="DTYPE",
        help="The dtype of inputs and labels, such as float32. By default that of the files; for text float32, or "
        "float64 if float32 does not keep all digits of the first source; for decimals float64.")
    format: str | None = option(None, section=_FILES, metavar="FORMAT",
        help="The format of all sources: csv, tsv, blank, jsonl, parquet, arrow, npy, npz or netcdf. By default that "
        "of the suffix.")
    delimiter: str | None = option(None, section=_FILES, metavar="CHAR",
        help=r"The character between the fields of text, such as ; or \t for a tab. By default that of the format.")
    decimal: str = option(".", section=_FILES, metavar="CHAR", record="if given",
        help="A comma if numbers in text are written 1,5. By default a point. Numbers in manifests and in other "
        "options than --na-values always have a point.")
    encoding: str | None = option(None, section=_FILES, metavar="NAME", record="if given",
        help="The encoding of text, such as latin-1 or utf-16. By default UTF-8.")
    comment: str | None = option(None, section=_FILES, metavar="CHAR", record="if given",
        help="Lines of text that begin with this character, such as #, are left out.")
    skip_lines: int = option(0, section=_FILES, kind="number", metavar="N",
        help="How many lines to skip before the header of text, or before its first row; comments do not count.")
    skip_after_header: int = option(0, section=_FILES, kind="number", metavar="N", record="if given",
        help="How many lines to skip after the header of text, such as one of units.")
    header: bool | None = option(None, section=_FILES, kind="switch",
        help="Whether text starts with the names of its columns. By default CSV and TSV do, and blank-separated text "
        "does not.")
    column_names: Sequence[str] = option((), section=_FILES, kind="columns", metavar="NAMES", null=True,
        help="Names for the columns of text without a header, and of NPY files.")
    input_key: str = option("inputs", section=_FILES, metavar="KEY",
        help="The array of an NPZ file that contains the inputs. By default inputs.")
    label_key: str = option("labels", section=_FILES, metavar="KEY",
        help="The array of an NPZ file that contains the labels: one row per step, or a single number. By default "
        "labels.")
    label_pattern: str | None = option(None, section=_NAMES, metavar="REGEX",
        help=r"A regular expression that is searched in the path of each source, relative to SOURCES, such as "
        r"'spk(\d+)'. Each group finds a number or a class, which is a label of the whole sequence.")
    labels_in_manifest: bool = option(False, kind="switch", record="never",
        help="The labels come from a manifest, not from the sources.")
    labels_from: str | None = option(None, section=_BESIDE, metavar="PATTERN",
        help=r"The file with a source's labels: 'labels/{stem}.csv' with {stem}, {name}, {parent} or {path} of the "
        r"source, or 'in/(\d+)_.* -> out/{1}.csv' with the groups of a regular expression; relative to SOURCES. "
        "--labels are then its columns, by default all. Such files are not sources.")
    on: Sequence[str] = option((), section=_BESIDE, kind="columns", metavar="COLS",
        help="Columns by which the rows of both files are paired, such as time, or time=date if their names differ. By "
        "default the first row is paired with the first, and so on.")
    join: Join = option("inner", section=_BESIDE, choices=get_args(Join),
        help="inner, the default, leaves out rows without labels; windows span them unless --max-gap ends a sequence "
        "there. With left their labels are missing values, see --missing.")
    label_axis: Literal["step", "own"] | None = option(None,
        help="own: the file of --labels-from has its own length, and its rows belong to the whole source.")
    classes: Sequence[str] = option((), section=_TEXTS, kind="list", metavar="NAMES", repeated=True,
        help="The names of labels that are text: cat,dog have the codes 0 and 1, and other text is refused; with "
        "several targets COL=cat,dog for each. By default the texts of a column in the order in which they first "
        "appear. For text that --process returns they are required, with several targets as 0=cat,dog.")
    group_by: Sequence[str] = option((), section=_GROUPS, kind="columns", metavar="COLS",
        help="Rows with the same values in these columns become one sequence, adjacent or not. The values are kept "
        "with the sequence: whole numbers as int64, others as text; COL:text keeps numbers as text.")
    time: Sequence[str] = option((), section=_TIMES, kind="columns", metavar="COLS",
        help="The column with the time of each step, which is stored: time stamps, ISO 8601, or what --time-format or "
        "--time-unit says. Or two columns, a date and a time of day; or several: year,month,day,hour.")
    time_format: Sequence[str] = option((), section=_TIMES, kind="list", metavar="FORMAT", repeated=True,
        help="The format of times for Python's strptime, such as '%d.%m.%Y %H:%M'; several are tried in turn.")
    time_unit: Unit | None = option(None, section=_TIMES, metavar="UNIT", choices=get_args(Unit),
        help="The unit of numbers, which count from 1970, and of stored times: s, ms, us or ns. By default ns; floats "
        "and numbers in text, which may have fractions, are always stored as ns.")
    time_zone: str | None = option(None, section=_TIMES, metavar="ZONE", record="if given",
        help="The zone of times that are written without one, such as Europe/Berlin; they are converted to UTC. By "
        "default they are stored as local times.")
    elapsed: bool = option(False, section=_TIMES, kind="switch",
        help="The numbers count from some start, not from 1970.")
    sort_time: bool = option(False, section=_TIMES, kind="switch", help="Sort the rows of each sequence by time.")
    duplicates: Duplicates = option("error", section=_TIMES, choices=get_args(Duplicates),
        help="Which of several rows with the same time to take: the first, the last, or the mean of each column. "
        "error, the default, refuses them.")
    max_gap: str | None = option(None, section=_TIMES, metavar="TIME",
        help="A longer time between two rows ends the sequence, such as 2h or 15min; another begins. Rows that "
        "--missing drops count.")
    every: str | None = option(None, section=_TIMES, metavar="TIME",
        help="The time between consecutive rows, such as 10s; any other is refused.")
    missing: Sequence[str] = option((), section=_MISSING, kind="list", metavar="[COLS=]POLICY", repeated=True,
        help="What to do with missing values: error, the default; drop the step, so that windows span it; split the "
        "sequence there; keep NaN; ffill with the value before; interpolate. ffill+drop also drops what ffill cannot "
        "fill, such as leading gaps. COLS=POLICY is for some columns. With --process, error or keep.")
    ffill_limit: int | None = option(None, section=_MISSING, kind="number", metavar="N",
        help="The most steps in a row that ffill fills.")
    mask: bool = option(False, section=_MISSING, kind="switch",
        help="Keep which values of the inputs were filled in, for windows(..., value_mask=True).")
    na_values: Sequence[str] = option((), section=_MISSING, kind="columns", metavar="WORDS",
        help="Further words and numbers that mean a missing value, such as '-999,?', besides empty fields, NA, NaN, "
        "null and similar words; with a decimal comma, write '\"-999,0\",?'.")
    transforms: Sequence[str] = option((), kind="list",
        help="Changes to columns, in this order, before --missing: 'scale flow=0.001', 'clip flow=0:', 'diff level' "
        "(the first row has no difference, and is left out except with --missing keep), 'log flow'.",
        parts=(
            Option("scale", section=_CHANGES, metavar="COLS=FACTOR", repeated=True,
                help="Multiply columns by a number."),
            Option("clip", section=_CHANGES, metavar="COLS=LOW:HIGH", repeated=True,
                help="Raise or lower values to limits; one may be left out, as in 0:."),
            Option("diff", section=_CHANGES, metavar="COLS", repeated=True,
                help="Take differences to the row before; the first row is left out, except with --missing keep."),
            Option("log", section=_CHANGES, metavar="COLS", repeated=True,
                help="Take natural logarithms. All four are done in the order given, before --missing."),
        ))
    # fmt: on

    def __post_init__(self) -> None:
        from builder.labels.text_classes import format_classes, parse_classes
        from builder.options.option_syntax import parse_missing_words
        from builder.options.table_checks import PARSERS, check

        object.__setattr__(self, "na_values", parse_missing_words(self.na_values, self.decimal))
        parse_fields(self, PARSERS)
        object.__setattr__(self, "classes", format_classes(parse_classes(self.classes, self.missing_words)))
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
    def missing_words(self) -> tuple[str, ...]:
        """The words in text that mean a missing value."""
        from builder.formats.text_numbers import MISSING

        return (*MISSING, *self.na_values)

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
