"""The command `seqzarr build`: its options, in sections, and what it prints."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import click

from builder.amounts import printable
from builder.cli.attention import attention
from builder.cli.exit_status import FAILED, ending_plainly, stdout_kept
from builder.cli.paths import EMPTY, GivenPath

if TYPE_CHECKING:
    from builder.execution.preview import Preview
    from builder.workers.process_source import Failure
    from store_spec.schema import LabelAxis

LISTED_FAILURES = 20

EXAMPLES = """\b
Examples:
  # every column of every table in a folder; the labels are the inputs
  seqzarr build recordings recordings.zarr

\b
  # two columns in, one out, a label row per step
  seqzarr build 'plants/**/*.parquet' plants.zarr --inputs flow,heat --labels yield

\b
  # a label per sequence, from a table with one row a file
  seqzarr build train vowels.zarr --manifest labels.csv --key file --label-column speaker

\b
  # text without a header: columns by number, the first is 0
  seqzarr build engines engines.zarr --inputs 2:25

\b
  # steps with a gap left out, those of one column filled in; a unit changed
  seqzarr build rivers rivers.zarr --missing drop --missing level=interpolate --scale flow=0.0283

\b
  # any other format, by a function of a path that returns (inputs, labels)
  seqzarr build calls calls.zarr --process my_sources:read_wav

\b
Run again, with SOURCES and STORE alone, a build adds the files that are new. Where a
manifest does not lie below SOURCES, --manifest is given again. A file that changed, and
one that cannot be used, is named, and the exit status is then 1.
"""

TRANSFORMS = ("scale", "clip", "diff", "log")  # in the order of the help; they are done in the order given

OF_TIMES = ("sort_time", "duplicates", "max_gap", "every")

OF_TEXT = (  # most of them of text alone
    *("format", "delimiter", "decimal", "encoding", "comment", "skip_lines", "skip_after_header", "header"),
    "column_names",
)

OF_EITHER = ("missing", "classes", "label_pattern")  # tables, or a process function

OF_TABLES = {
    "Columns of tables": ("inputs", "labels", "exclude", "dtype"),
    "How files are read": (*OF_TEXT, "input_key", "label_key"),
    "Labels in the file's name": ("label_pattern",),
    "Labels in a file beside it": ("labels_from", "on", "join"),
    "Labels that are text": ("classes",),
    "Many sequences in a file": ("group_by",),
    "When steps were": ("time", "time_format", "time_unit", "time_zone", "elapsed", *OF_TIMES),
    "Missing values": ("missing", "ffill_limit", "mask", "na_values"),
    "Changes to columns": TRANSFORMS,
}


# Of `build` and of `preview`, where they have the names that they have here.
OF_BUILDS = (
    "manifest", "key", "label_column", "manifest_only", "keep", "chunk", "shard", "codec", "workers", "update",
    "retire_missing",
)  # fmt: skip


class BuildCommand(click.Command):
    """A command whose options are shown in sections."""

    sections: ClassVar = OF_TABLES | {
        "Labels in a manifest": ("manifest", "key", "label_column", "manifest_only", "keep"),
        "A function of your own": ("process", "arg", "label_axis"),
        "The store": ("chunk", "shard", "codec"),
        "A store that is there": ("update", "retire_missing", "yes"),
        "Sources that fail": ("fail_fast", "max_failures"),
        "The work": ("workers", "scheduler", "batch"),
        "What is shown": ("dry_run", "as_json", "quiet"),
    }

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the transforms in the order in which they are given: click keeps that of each option alone."""
        given, _, order = self.make_parser(ctx).parse_args(list(args))
        left = {name: list(given.get(name, ())) for name in TRANSFORMS}
        names = [option.name for option in order if option.name in left]
        ctx.meta[__name__] = [f"{name} {left[name].pop(0)}" for name in names]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        options = {option.name: option for option in self.get_params(ctx) if isinstance(option, click.Option)}
        sections = [(title, [options.pop(name) for name in names]) for title, names in self.sections.items()]
        sections[-1][1].extend(options.values())  # --help, whatever click calls it
        for title, members in sections:
            with formatter.section(title):
                formatter.write_dl([record for one in members if (record := one.get_help_record(ctx)) is not None])


@click.command(cls=BuildCommand, epilog=EXAMPLES, short_help="Make STORE of the files in SOURCES, or add the new ones.")
@click.argument("places", metavar="SOURCES STORE", nargs=-1)
@click.option(
    "--inputs", metavar="COLS", help="Columns of the inputs, as a,b,c1:c12 or '\"a, b\",c'. By default all others."
)
@click.option("--labels", metavar="COLS", help="Columns of the labels, a row per step. By default the inputs.")
@click.option("--exclude", metavar="COLS", help="Columns to leave out of both.")
@click.option(
    "--dtype", metavar="DTYPE", help="As float32. By default what files hold, and float64 for text and decimals."
)
@click.option(
    "--format", metavar="FORMAT", help="csv, tsv, blank, jsonl, parquet, arrow, npy, npz, netcdf. By default by suffix."
)
@click.option("--delimiter", metavar="CHAR", help=r"Between the fields of text; \t is a tab.")
@click.option(
    "--decimal",
    metavar="CHAR",
    help="A comma where numbers in text are written 1,5. By default a point; manifests and options always have one.",
)
@click.option(
    "--skip-lines", metavar="N", type=int, help="Lines of text before its header, or first row, to leave out."
)
@click.option(
    "--skip-after-header", metavar="N", type=int, help="Lines behind the header to leave out, as one of units."
)
@click.option("--encoding", metavar="NAME", help="Of text, as latin-1 or utf-16. By default UTF-8.")
@click.option("--comment", metavar="CHAR", help="As #: lines of text that begin with it are left out.")
@click.option("--header/--no-header", default=None, help="Whether text starts with the names of its columns.")
@click.option("--column-names", metavar="NAMES", help="Names for the columns of files without a header.")
@click.option("--input-key", metavar="KEY", help="The inputs in NPZ files. By default inputs.")
@click.option("--label-key", metavar="KEY", help="The labels in NPZ files. By default labels.")
@click.option(
    "--label-pattern", metavar="REGEX", help=r"As 'spk(\d+)': each group is a number or a class, and a label."
)
@click.option(
    "--classes",
    metavar="NAMES",
    multiple=True,
    help="As cat,dog, or COL=cat,dog: their codes are 0, 1; others are refused. By default as they first appear; those "
    "that --process returns have to be given, of several targets as 0=cat,dog.",
)
@click.option(
    "--labels-from",
    metavar="PATTERN",
    help=r"The file of a source's labels, as 'labels/{stem}.csv', or 'in/(\d+)_.* -> out/{1}.csv' by a regular "
    "expression; relative to SOURCES. --labels are then its columns.",
)
@click.option(
    "--on",
    metavar="COLS",
    help="Columns of both that pair rows, as time or time=date. By default row by row.",
)
@click.option(
    "--join",
    type=click.Choice(["inner", "left"]),
    help="inner, the default: rows without labels are left out, and windows span them unless --max-gap ends a sequence "
    "there; left: their labels are missing, see --missing.",
)
@click.option(
    "--group-by",
    metavar="COLS",
    help="A sequence for all rows with the same values there; these are kept, as numbers or, by COL:text, as text.",
)
@click.option(
    "--time",
    metavar="COLS",
    help="Time stamps, and stored as such: ISO 8601, or by one of the next two. Or a date and a time of day; or year, "
    "month, day, hour.",
)
@click.option(
    "--time-format",
    metavar="FORMAT",
    multiple=True,
    help="As '%d.%m.%Y %H:%M', see Python's strptime; can be repeated.",
)
@click.option(
    "--time-unit",
    metavar="UNIT",
    type=click.Choice(["s", "ms", "us", "ns"]),
    help="s, ms, us or ns: what numbers count from 1970, and what stamps are stored in. By default ns; numbers "
    "in text may have fractions, and are stored as ns too.",
)
@click.option(
    "--time-zone",
    metavar="ZONE",
    help="As Europe/Berlin: of times that are written without one, which become UTC. By default they are local times.",
)
@click.option("--elapsed", is_flag=True, help="The numbers count from some beginning, not from 1970.")
@click.option("--sort-time", is_flag=True, help="Sort the rows of a sequence by time.")
@click.option(
    "--duplicates",
    type=click.Choice(["error", "first", "last", "mean"]),
    help="What is taken of rows of one time. By default error.",
)
@click.option(
    "--max-gap",
    metavar="TIME",
    help="Longer ones between rows end a sequence, as 2h or 15min; another begins. Rows count that --missing drops: "
    "split ends a sequence there.",
)
@click.option("--every", metavar="TIME", help="Between any two rows, as 10s; a row that is off it is refused.")
@click.option(
    "--missing",
    metavar="[COLS=]POLICY",
    multiple=True,
    help="error, the default; drop: the step is left out, so that windows span it; split: the sequence ends there, and "
    "another begins; keep: NaN is stored; ffill: the value before; interpolate. ffill+drop says what becomes of what "
    "ffill leaves, as leading gaps. Repeat it, for some columns as COLS=POLICY. With --process, error or keep.",
)
@click.option("--ffill-limit", metavar="N", type=int, help="Steps in a row that ffill fills at most.")
@click.option("--mask", is_flag=True, help="Keep where values of inputs were filled in, for windows(..., mask=True).")
@click.option(
    "--na-values",
    metavar="WORDS",
    help="Missing values beside empty, NA, NaN, ... as '-999,?'; '\"-999,0\",?' with --decimal ,.",
)
@click.option("--scale", metavar="COLS=FACTOR", multiple=True, help="Multiply columns.")
@click.option(
    "--clip", metavar="COLS=LOW:HIGH", multiple=True, help="Raise or lower values to limits; 0: is one alone."
)
@click.option("--diff", metavar="COLS", multiple=True, help="Differences to the row before; the first row is left out.")
@click.option(
    "--log",
    metavar="COLS",
    multiple=True,
    help="Natural logarithms. All four are done in the order given, before --missing, and can be repeated.",
)
@click.option("--manifest", metavar="TABLE", type=GivenPath(path_type=Path), help="CSV or Parquet, one row a file.")
@click.option("--key", metavar="COL", help="Its column with the file's path, name or stem. By default source.")
@click.option("--label-column", metavar="COLS", help="Its columns that are the labels.")
@click.option("--keep", metavar="COLS", help="Its columns that are kept with each sequence, as site,age.")
@click.option("--manifest-only", is_flag=True, help="Take only the files that it lists.")
@click.option("--process", metavar="MODULE:FUNCTION", help="Takes a path, returns (inputs, labels) or yields several.")
@click.option(
    "--arg",
    metavar="KEY=VALUE",
    multiple=True,
    help="An argument for it: a number, true, false, or text; can be repeated.",
)
@click.option(
    "--label-axis",
    metavar="AXIS",
    type=click.Choice(["step", "sequence", "own"]),
    help="step: its labels are a row per step; sequence: one; own: any number. By default what fits.",
)
@click.option("--chunk", metavar="SIZE", help="Decoded bytes that are compressed together, as 1MB. By default 256KiB.")
@click.option("--shard", metavar="SIZE", help="Decoded bytes in one file. By default 64MiB.")
@click.option(
    "--codec",
    metavar="CODEC",
    help="lz4 (the default), zstd, either with a level as zstd:5, none, or auto: by the first rows.",
)
@click.option(
    "--workers", metavar="N", type=int, help="Processes; 0: this one. By default one a core, or 0 for little."
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a dask scheduler to use instead.")
@click.option(
    "--batch", metavar="SIZE", help="Decoded bytes that one task processes. By default 32MiB, the last ones less."
)
@click.option("--update", is_flag=True, help="Build sources again that changed, or whose process function did.")
@click.option("--retire-missing", is_flag=True, help="Take the sequences away whose sources are there no more.")
@click.option("--yes", is_flag=True, help="Do so even if most of them are missing.")
@click.option("--fail-fast", is_flag=True, help="Give up at the first source that fails.")
@click.option("--max-failures", metavar="N", help="Give up when more fail, as 20, or 10% of those to process.")
@click.option("--dry-run", is_flag=True, help="Read a few files, say what would be built, in how much memory, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.pass_context
def build(context: click.Context, /, **_: object) -> None:
    """Make the store STORE of the files in SOURCES, or bring it up to date with them.

    SOURCES is a folder, with all below it, or a pattern in quotes, as 'data/**/*.csv'. Each file becomes a sequence;
    the files' paths give their order.

    A worker reads a file whole, but for these, which may be larger than memory: NPY files and Parquet files of several
    row groups, if they are one sequence of rows taken as they are, or --group-by finds rows that follow one another;
    and what --process yields.
    """
    asked = context.params  # by name, as the table of options above has them: no second list of them here
    sources, store = _two(asked["places"])
    given = _given(context)
    _check_options(given, is_new=not os.path.lexists(store))
    as_json, quiet = asked["as_json"], asked["quiet"]
    with ending_plainly(None if asked["dry_run"] else Path(store)):
        from builder.planning.options import asked_of
        from builder.processes.arguments import parse_arguments

        of_tables = _of_tables(context, given)
        arguments = parse_arguments(asked["arg"])
        function, of_function = asked_of(
            asked["process"], of_tables, [*options_of_tables(given)], Path(store), arguments
        )
        of_both: dict[str, Any] = {name: asked[name] for name in OF_BUILDS} | {
            "process": function,
            "arguments": of_function.arguments,
            "missing": of_function.missing,
            "classes": of_function.classes,
            "label_pattern": of_function.label_pattern,
            # Of labels in another file, it is an option of how tables are read.
            "label_axis": None if "labels_from" in given else asked["label_axis"],
        }
        if asked["batch"]:
            of_both["batch"] = asked["batch"]
        if asked["dry_run"]:
            from builder.execution.preview import preview

            with stdout_kept():
                seen = preview(sources, store, **of_both, yes=asked["yes"])
            _print_preview(seen, as_json=as_json, quiet=quiet)
            _end([*seen.unreadable, *seen.failures], failed=bool(seen.changed) and not seen.update)
        from builder.cli.progress import of_build, showing, summary
        from builder.execution.build import build as build_store

        shown = showing(Path(store).name or store, of_build, begin="listing the sources", visible=not quiet)
        with stdout_kept(), shown as show, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the process function uses")  # a line after the build says it
            report = build_store(
                sources,
                store,
                **of_both,
                scheduler=asked["scheduler"],
                yes=asked["yes"],
                max_failures=0 if asked["fail_fast"] else asked["max_failures"],
                on_progress=show,
            )
        if as_json:
            click.echo(json.dumps(report.to_json(), indent=2, allow_nan=False))
        elif not quiet:
            click.echo(summary(report))
            if report.codec is not None:
                click.echo(report.codec)
        for line in () if quiet else attention(report):
            click.echo(line, err=True)
        _end(report.failures, store if report.total_sequences else None, failed=bool(report.changed))


def options_of_tables(given: Iterable[str]) -> Iterator[str]:
    """Give the options of `tabular` that are given, each once."""
    given = set(given)
    names = [name for section in OF_TABLES.values() for name in section if name in given]
    names += ["label_axis"] if {"labels_from", "label_axis"} <= given else []
    yield from dict.fromkeys("transforms" if name in TRANSFORMS else name for name in names)


def _of_tables(context: click.Context, given: Iterable[str]) -> dict[str, Any]:
    """Return the options of tables that are given, as `tabular` takes them; it has what is usual for the others."""
    asked = context.params
    found = {name: asked[name] for name in options_of_tables(given) if name in asked}
    if found.get("delimiter") == r"\t":
        found["delimiter"] = "\t"
    if transforms := context.meta[__name__]:
        found["transforms"] = transforms
    if "label_axis" in found:
        found["label_axis"] = _of_labels_beside(asked["label_axis"])
    return found | ({"labels_in_manifest": True} if "label_column" in given else {})


def _given(context: click.Context) -> dict[str, str]:
    """Return the options that are given, and how each is written."""
    flags = {option.name: option.opts[0] for option in context.command.params}
    return {
        name: flags[name]
        for name, value in context.params.items()
        if value not in (None, ()) and (value is not False or name == "header")  # --no-header says something
    }


def _check_options(flags: dict[str, str], *, is_new: bool) -> None:
    """Refuse options that mean nothing together; the others that an old store was built with are not known here."""
    given = list(flags)
    of_tables = [
        flags[name] for names in OF_TABLES.values() for name in names if name in given and name not in OF_EITHER
    ]
    if "process" in given and of_tables:
        raise click.UsageError(f"{_and(of_tables)}: for tables, which --process replaces; leave out one or the other")
    if "yes" in given and "retire_missing" not in given:
        raise click.UsageError("--yes goes with --retire-missing")
    if "fail_fast" in given and "max_failures" in given:
        raise click.UsageError("--fail-fast and --max-failures: leave out one or the other")
    if is_new and "label_axis" in given and not {"process", "labels_from"}.intersection(given):
        raise click.UsageError(
            "--label-axis goes with --process or --labels-from; of other tables, where the labels come from tells"
        )
    of_manifest = [flags[name] for name in ("key", "label_column", "manifest_only", "keep") if name in given]
    if is_new and of_manifest and "manifest" not in given:
        raise click.UsageError(f"{_and(of_manifest)}: needs --manifest TABLE")


def _of_labels_beside(label_axis: LabelAxis | None) -> Literal["step", "own"] | None:
    if label_axis == "sequence":
        raise click.UsageError("--label-axis sequence: labels in a file beside each source are a row per step, or own")
    return label_axis


def _two(places: tuple[str, ...]) -> tuple[str, str]:
    """Return SOURCES and STORE."""
    for name, place in zip(("SOURCES", "STORE"), places, strict=False):
        if not place:
            raise click.UsageError(f"{name} {EMPTY}")
    if len(places) == 2:
        return places[0], places[1]
    if len(places) < 2:
        lacking = "SOURCES and STORE are" if not places else "STORE is"
        raise click.UsageError(f"{lacking} missing; as in: seqzarr build recordings recordings.zarr")
    raise click.UsageError(
        f"SOURCES and STORE are two arguments, but there are {len(places):,} ({places[0]} {places[1]} ...); put a "
        "pattern in quotes, as 'data/*.csv', so that the shell leaves it as it is"
    )


def _and(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _print_preview(seen: Preview, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        click.echo(json.dumps(seen.to_json(), indent=2, allow_nan=False))
    elif not quiet:
        from builder.cli.preview_command import preview_text
        from builder.inspection.terminal import plain_console, show

        show(preview_text(seen), plain_console())


def _end(failures: Sequence[Failure], store: str | None = None, *, failed: bool = False) -> None:
    """Name the sources that failed, and end with the exit status."""
    for failure in failures[:LISTED_FAILURES]:
        click.echo(printable(str(failure)), err=True)
    if (more := len(failures) - LISTED_FAILURES) > 0:
        lists = f": seqzarr inspect --json {store} lists them" if store is not None else ""
        click.echo(f"and {more:,} more{lists}", err=True)
    sys.exit(FAILED if failures or failed else 0)
