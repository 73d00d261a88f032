"""The command `seqzarr build`: its options, in sections, and what it prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import click

from builder.cli.amounts import printable
from builder.cli.attention import attention
from builder.cli.ending import FAILED, ending_plainly, stdout_kept

if TYPE_CHECKING:
    from builder.batch import Failure
    from builder.preview import Preview
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
  # any other format, by a function of a path that returns (inputs, labels)
  seqzarr build calls calls.zarr --process my_sources:read_wav

\b
Run again, with SOURCES and STORE alone, a build adds the files that are new. A file that
changed, and one that cannot be used, is named, and the exit status is then 1.
"""

OF_TABLES = {
    "Columns of tables": ("inputs", "labels", "exclude", "dtype"),
    "How files are read": ("format", "delimiter", "header", "column_names", "input_key", "label_key"),
    "Labels in the file's name": ("label_pattern",),
}


class BuildCommand(click.Command):
    """A command whose options are shown in sections."""

    sections: ClassVar = OF_TABLES | {
        "Labels in a manifest": ("manifest", "key", "label_column", "manifest_only"),
        "A function of your own": ("process", "label_axis"),
        "The store": ("chunk", "shard", "codec"),
        "A store that is there": ("update", "retire_missing", "yes"),
        "Sources that fail": ("fail_fast", "max_failures"),
        "The work": ("workers", "scheduler", "batch"),
        "What is shown": ("dry_run", "as_json", "quiet"),
    }

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
@click.option("--inputs", metavar="COLS", help="Columns of the inputs, as a,b,c1:c12. By default all others.")
@click.option("--labels", metavar="COLS", help="Columns of the labels, a row per step. By default the inputs.")
@click.option("--exclude", metavar="COLS", help="Columns to leave out of both.")
@click.option("--dtype", metavar="DTYPE", help="As float32. By default what files hold, and float64 for text.")
@click.option("--format", metavar="FORMAT", help="csv, tsv, blank, parquet, arrow, npy or npz. By default by suffix.")
@click.option("--delimiter", metavar="CHAR", help=r"Between the fields of text; \t is a tab.")
@click.option("--header/--no-header", default=None, help="Whether text starts with the names of its columns.")
@click.option("--column-names", metavar="NAMES", help="Names for the columns of files without a header.")
@click.option("--input-key", metavar="KEY", help="The inputs in NPZ files. By default inputs.")
@click.option("--label-key", metavar="KEY", help="The labels in NPZ files. By default labels.")
@click.option("--label-pattern", metavar="REGEX", help=r"As 'spk(\d+)': each group is a number, and a label.")
@click.option("--manifest", metavar="TABLE", type=click.Path(path_type=Path), help="CSV or Parquet, one row a file.")
@click.option("--key", metavar="COL", help="Its column with the file's path, name or stem. By default source.")
@click.option("--label-column", metavar="COLS", help="Its columns that are the labels.")
@click.option("--manifest-only", is_flag=True, help="Take only the files that it lists.")
@click.option("--process", metavar="MODULE:FUNCTION", help="Takes a path, returns (inputs, labels) or yields several.")
@click.option(
    "--label-axis",
    metavar="AXIS",
    type=click.Choice(["step", "sequence", "own"]),
    help="step: its labels are a row per step; sequence: one; own: any number. By default what fits.",
)
@click.option("--chunk", metavar="SIZE", help="Decoded bytes that are compressed together, as 1MB. By default 1MiB.")
@click.option("--shard", metavar="SIZE", help="Decoded bytes in one file. By default 64MiB.")
@click.option("--codec", metavar="CODEC", help="zstd, lz4, either with a level as zstd:5, or none. By default zstd.")
@click.option(
    "--workers", metavar="N", type=int, help="Processes; 0: this one. By default one a core, or 0 for little."
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a dask scheduler to use instead.")
@click.option("--batch", metavar="SIZE", help="Decoded bytes that one task processes. By default 16MiB.")
@click.option("--update", is_flag=True, help="Build sources again that changed, or whose process function did.")
@click.option("--retire-missing", is_flag=True, help="Take the sequences away whose sources are there no more.")
@click.option("--yes", is_flag=True, help="Do so even if most of them are missing.")
@click.option("--fail-fast", is_flag=True, help="Give up at the first source that fails.")
@click.option("--max-failures", metavar="N", help="Give up when more fail, as 20, or 10% of those to process.")
@click.option("--dry-run", is_flag=True, help="Read a few files, say what would be built, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def build(
    *,
    places: tuple[str, ...],
    inputs: str | None,
    labels: str | None,
    exclude: str | None,
    dtype: str | None,
    format: str | None,  # noqa: A002  # the option's name
    delimiter: str | None,
    header: bool | None,
    column_names: str | None,
    input_key: str | None,
    label_key: str | None,
    label_pattern: str | None,
    manifest: Path | None,
    key: str | None,
    label_column: str | None,
    manifest_only: bool,
    process: str | None,
    label_axis: LabelAxis | None,
    chunk: str | None,
    shard: str | None,
    codec: str | None,
    workers: int | None,
    scheduler: str | None,
    batch: str | None,
    update: bool,
    retire_missing: bool,
    yes: bool,
    fail_fast: bool,
    max_failures: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Make the store STORE of the files in SOURCES, or bring it up to date with them.

    SOURCES is a folder, with all below it, or a pattern in quotes, as 'data/**/*.csv'. Each file becomes a sequence;
    the files' paths give their order.
    """
    sources, store = _two(places)
    given = _given(click.get_current_context())
    _check_options(given, is_new=not os.path.lexists(store))
    with ending_plainly(None if dry_run else Path(store)):
        from builder.build import BATCH_BYTES
        from builder.tabular import tabular

        function = process or tabular(
            inputs=inputs,
            labels=labels,
            exclude=exclude,
            dtype=dtype,
            format=format,
            delimiter="\t" if delimiter == r"\t" else delimiter,
            header=header,
            column_names=column_names,
            input_key=input_key or "inputs",
            label_key=label_key or "labels",
            label_pattern=label_pattern,
            labels_in_manifest=label_column is not None,
        ).only(name for names in OF_TABLES.values() for name in names if name in given)
        if dry_run:
            from builder.preview import preview

            with stdout_kept():
                seen = preview(
                    sources,
                    store,
                    process=function,
                    manifest=manifest,
                    key=key,
                    label_column=label_column,
                    manifest_only=manifest_only,
                    label_axis=label_axis,
                    chunk=chunk,
                    shard=shard,
                    codec=codec,
                    workers=workers,
                    batch=batch or BATCH_BYTES,
                    update=update,
                    retire_missing=retire_missing,
                )
            _print_preview(seen, as_json=as_json, quiet=quiet)
            _end([*seen.unreadable, *seen.failures])
        from builder.build import build as build_store
        from builder.cli.progress import of_build, showing, summary

        shown = showing(Path(store).name or store, of_build, begin="listing the sources", visible=not quiet)
        with stdout_kept(), shown as show:
            report = build_store(
                sources,
                store,
                process=function,
                manifest=manifest,
                key=key,
                label_column=label_column,
                manifest_only=manifest_only,
                label_axis=label_axis,
                chunk=chunk,
                shard=shard,
                codec=codec,
                workers=workers,
                scheduler=scheduler,
                batch=batch or BATCH_BYTES,
                update=update,
                retire_missing=retire_missing,
                yes=yes,
                max_failures=0 if fail_fast else max_failures,
                on_progress=show,
            )
        if as_json:
            click.echo(json.dumps(report.to_json(), indent=2, allow_nan=False))
        elif not quiet:
            click.echo(summary(report))
        for line in () if quiet else attention(report):
            click.echo(line, err=True)
        _end(report.failures, store if report.total_sequences else None, failed=bool(report.changed))


def _given(context: click.Context) -> dict[str, str]:
    """Return the options that are given, and how each is written."""
    flags = {option.name: option.opts[0] for option in context.command.params}
    return {
        name: flags[name]
        for name, value in context.params.items()
        if value is not None and (value is not False or name == "header")  # --no-header says something
    }


def _check_options(flags: dict[str, str], *, is_new: bool) -> None:
    """Refuse options that mean nothing together; the others that an old store was built with are not known here."""
    given = list(flags)
    of_tables = [flags[name] for names in OF_TABLES.values() for name in names if name in given]
    if "process" in given and of_tables:
        raise click.UsageError(f"{_and(of_tables)}: for tables, which --process replaces; leave out one or the other")
    if "yes" in given and "retire_missing" not in given:
        raise click.UsageError("--yes goes with --retire-missing")
    if "fail_fast" in given and "max_failures" in given:
        raise click.UsageError("--fail-fast and --max-failures: leave out one or the other")
    if is_new and "label_axis" in given and "process" not in given:
        raise click.UsageError("--label-axis goes with --process; of tables, where the labels come from tells")
    of_manifest = [flags[name] for name in ("key", "label_column", "manifest_only") if name in given]
    if is_new and of_manifest and "manifest" not in given:
        raise click.UsageError(f"{_and(of_manifest)}: needs --manifest TABLE")


def _two(places: tuple[str, ...]) -> tuple[str, str]:
    """Return SOURCES and STORE."""
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
        from builder.cli.preview import preview_text
        from builder.cli.tables import plain_console, show

        show(preview_text(seen), plain_console())


def _end(failures: Sequence[Failure], store: str | None = None, *, failed: bool = False) -> None:
    """Name the sources that failed, and end with the exit status."""
    for failure in failures[:LISTED_FAILURES]:
        click.echo(printable(str(failure)), err=True)
    if (more := len(failures) - LISTED_FAILURES) > 0:
        lists = f": seqzarr inspect --json {store} lists them" if store is not None else ""
        click.echo(f"and {more:,} more{lists}", err=True)
    sys.exit(FAILED if failures or failed else 0)
