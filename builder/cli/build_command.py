"""The command `seqzarr build`: its options, in sections, and what it prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from builder.amounts import count_text, first_names, printable
from builder.cli.exit_status import FAILED, exit_with_status, stdout_to_stderr
from builder.cli.parameters import JSON, QUIET, GivenPath, GivenStore, add_flags, flags_of
from builder.options.declaration import Option, options_of
from builder.options.table_options import TableOptions
from builder.planning.build_options import BuildOptions

if TYPE_CHECKING:
    from builder.execution.preview import Preview
    from builder.execution.report import Report
    from builder.workers.process_source import Failure

LISTED_FAILURES = 20

EXAMPLES = """\b
Examples:
  # every column of every table in a folder; the labels are the inputs
  seqzarr build recordings recordings.zarr

\b
  # two input columns and one label column, with one label row per step
  seqzarr build 'plants/**/*.parquet' plants.zarr --inputs flow,heat --labels yield

\b
  # one label per sequence, from a table with one row per file
  seqzarr build train vowels.zarr --manifest labels.csv --key file --label-column speaker

\b
  # text without a header: columns by number, counted from 0
  seqzarr build engines engines.zarr --inputs 2:25

\b
  # drop steps with missing values, but fill in those of one column; change a unit
  seqzarr build rivers rivers.zarr --missing drop --missing level=interpolate --scale flow=0.0283

\b
  # any other format, read by a function that takes a path and returns (inputs, labels)
  seqzarr build calls calls.zarr --process my_sources:read_wav

\b
Run the command again with SOURCES and STORE alone to add new files. Repeat --manifest if
it is outside SOURCES. Changed and unusable files are listed, and the exit status is 1.
"""

_SHOWN = "What is shown"
OF_TABLES = flags_of(options_of(TableOptions).values())
OF_COMMAND = (  # flags that are not arguments of `build`
    Option("fail_fast", False, help="Stop at the first source that fails.", section="Sources that fail", kind="switch"),
    Option(
        "dry_run",
        False,
        help="Read a few files, and show what would be built and how much memory it would take.",
        section=_SHOWN,
        kind="switch",
    ),
    JSON,
    QUIET,
)
FLAGS = (*OF_TABLES, *flags_of(options_of(BuildOptions).values()), *OF_COMMAND)
TRANSFORMS = tuple(flag.name for flag in options_of(TableOptions)["transforms"].flags)


class BuildCommand(click.Command):
    """A command whose options are shown in sections."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note the transforms in the order of the command line; click keeps only the order of each option."""
        values, _, order = self.make_parser(ctx).parse_args(list(args))
        left = {name: list(values.get(name, ())) for name in TRANSFORMS}
        names = [option.name for option in order if option.name in left]
        ctx.meta[__name__] = [f"{name} {left[name].pop(0)}" for name in names]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        section_of = {flag.name: flag.section for flag in FLAGS}
        records: dict[str | None, list[tuple[str, str]]] = {flag.section: [] for flag in FLAGS}
        for option in self.get_params(ctx):
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)) is not None:
                records[section_of.get(option.name or "", _SHOWN)].append(record)
        for section, members in records.items():
            with formatter.section(section or ""):
                formatter.write_dl(members)


@click.command(cls=BuildCommand, epilog=EXAMPLES, short_help="Make STORE from the files in SOURCES, or add new files.")
@click.argument("sources", type=GivenPath(readable=False))
@click.argument("store", type=GivenStore())
@click.argument("more", metavar="", nargs=-1)
@add_flags(FLAGS)
@click.pass_context
def build(context: click.Context, /, **_: object) -> None:
    """Make the store STORE from the files in SOURCES, or bring it up to date with them.

    SOURCES is a folder, searched recursively, or a glob pattern in quotes, such as 'data/**/*.csv'. Each file becomes a
    sequence. Sequences are in the order of the files' paths.

    A worker reads a file whole. Only these may be larger than memory: NPY files; Parquet files with several row groups,
    if each file is one sequence whose rows are taken as they are, or the rows of each --group-by value are adjacent;
    and what --process yields.
    """
    params = context.params
    store, more = params["store"], params["more"]
    if more:
        raise click.UsageError(
            f"SOURCES and STORE are two arguments, but there are {len(more) + 2:,} ({params['sources']} {store} ...); "
            "put a pattern in quotes, as 'data/*.csv', so that the shell leaves it as it is"
        )
    given = {name for name in params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    _check_options(given, is_new=isinstance(store, Path) and not os.path.lexists(store))
    as_json, quiet = params["as_json"], params["quiet"]
    with exit_with_status(None if params["dry_run"] else store):
        from builder.planning.resolved_options import process_and_options
        from builder.processes.function_process import parse_arguments

        of_build = {name: params[name] for name in options_of(BuildOptions) if name in params} | {
            **process_and_options(params["process"], _of_tables(context, given), store),
            "arguments": parse_arguments(params["arguments"]),
            # With labels_from it is an option of tables.
            "label_axis": None if "labels_from" in given else params["label_axis"],
            "max_failures": 0 if params["fail_fast"] else params["max_failures"],
        }
        if params["dry_run"]:
            from builder.execution.preview import preview

            with stdout_to_stderr():
                result = preview(**of_build)
            _print_preview(result, as_json=as_json, quiet=quiet)
            _end([*result.unreadable, *result.failures], failed=bool(result.changed) and not result.update)
        from builder.execution.build import run_build

        with stdout_to_stderr():
            report = run_build(BuildOptions(**of_build, progress=not quiet))
        if as_json:
            click.echo(json.dumps(report.to_json(), indent=2, allow_nan=False))
        elif not quiet:
            for line in filter(None, (report.summary, report.codec, report.dtype)):
                click.echo(line)
        failed = bool(report.changed) or not report.made
        for line in attention(report) if failed or not quiet else ():
            click.echo(line, err=True)
        _end(report.failures, store if report.total_sequences else None, failed=failed)


def options_of_tables(given: set[str]) -> Iterator[str]:
    """Yield the options of `tabular` that have a given flag."""
    for name, option in options_of(TableOptions).items():
        if given.intersection(flag.name for flag in option.flags):
            yield name
    if {"labels_from", "label_axis"} <= given:
        yield "label_axis"


def _of_tables(context: click.Context, given: set[str]) -> dict[str, Any]:
    """Return the given options of tables, as arguments of `tabular`."""
    params = context.params
    options = {name: params[name] for name in options_of_tables(given) if name in params}
    if options.get("delimiter") == r"\t":
        options["delimiter"] = "\t"
    if transforms := context.meta[__name__]:
        options["transforms"] = transforms
    return options | ({"labels_in_manifest": True} if "label_column" in given else {})


def _check_options(given: set[str], *, is_new: bool) -> None:
    """Refuse options that conflict; the recorded options of an old store are not known here."""
    of_either = options_of(BuildOptions)  # tables, or a process function
    of_tables = [flag.written for flag in OF_TABLES if flag.name in given and flag.name not in of_either]
    if "process" in given and of_tables:
        raise click.UsageError(
            f"{', '.join(of_tables)}: for tables, which --process replaces; leave out one or the other"
        )
    if "yes" in given and "retire_missing" not in given:
        raise click.UsageError("--yes goes with --retire-missing")
    if "fail_fast" in given and "max_failures" in given:
        raise click.UsageError("--fail-fast and --max-failures: leave out one or the other")
    if is_new and "label_axis" in given and not {"process", "labels_from"}.intersection(given):
        raise click.UsageError(
            "--label-axis goes with --process or --labels-from; for other tables the source of the labels determines it"
        )


def _print_preview(preview: Preview, *, as_json: bool, quiet: bool) -> None:
    if as_json:
        click.echo(json.dumps(preview.to_json(), indent=2, allow_nan=False))
    elif not quiet:
        from builder.cli.preview_command import preview_text
        from builder.inspection.terminal import show

        show(preview_text(preview))


def _end(failures: Sequence[Failure], store: Path | str | None = None, *, failed: bool = False) -> None:
    """Name the sources that failed, and end with the exit status."""
    for failure in failures[:LISTED_FAILURES]:
        click.echo(printable(str(failure)), err=True)
    if (more := len(failures) - LISTED_FAILURES) > 0:
        lists = f": seqzarr inspect --json {store} lists them" if store is not None else ""
        click.echo(f"and {more:,} more{lists}", err=True)
    sys.exit(FAILED if failures or failed else 0)


def absent_text(keys: Sequence[str]) -> str:
    """Name the sources that a manifest lists and that do not exist.

    >>> absent_text(["a.csv"])
    'there are no files for 1 source of the manifest: a.csv; --manifest-strict refuses that'
    """
    listed = f"{count_text(len(keys), 'source')} of the manifest: {printable(first_names(keys))}"
    return f"there are no files for {listed}; --manifest-strict refuses that"


def attention(report: Report) -> Iterator[str]:
    """Yield a line for each kind of source that the user should know of, with advice."""
    reason = printable(report.skipped[0].reason) if report.skipped else ""
    for sources, what, advice in (
        (report.changed, "changed since the store was built", "--update builds such sources again"),
        (() if report.retired else report.vanished, "no longer exist", "--retire-missing retires their sequences"),
        (report.outdated, "made by other code of the process function", "--update builds such sources again"),
        ([one.source for one in report.skipped], "empty", f"{reason}; --empty error counts such sources as failed"),
    ):
        if sources:
            yield f"{what}: {count_text(len(sources), 'source')} ({printable(first_names(sources))}); {advice}"
    if report.absent:
        yield absent_text(report.absent)
    if report.rounded.values:
        yield (
            f"rounded to float32: {count_text(report.rounded.values, 'number')} of "
            f"{count_text(report.rounded.sources, 'source')}, such as {printable(report.rounded.example)}: the first "
            "source has fewer digits; to keep them, build to another path with --dtype float64"
        )
    if report.uncompared is not None:
        yield report.uncompared
    failed = len(report.failures)
    if 0 < report.added < failed and report.added + failed == report.sources:  # of a new store
        yield (
            f"{failed:,} of {count_text(report.sources, 'source')} failed, and the store records the options of this "
            f"build: to build with others, as these lines may advise, remove {report.store.name} first"
        )
