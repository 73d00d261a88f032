"""The command `seqzarr`: a thin layer over functions of the same names.

What takes long to import is imported when a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from builder.cli.build import build
from builder.cli.ending import FAILED, ending_plainly, stdout_kept


def _show_version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  # click's
    if not wanted or context.resilient_parsing:
        return
    try:
        click.echo(f"seqzarr {version('seqzarr')}")
    except PackageNotFoundError:
        click.echo("seqzarr, run from its source")
    context.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and end.",
)
def main() -> None:
    """Turn a folder of sequence files into one Zarr store, for training sequence models."""


main.add_command(build)


@main.command(short_help="Say what STORE holds.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
def inspect(*, store: Path, as_json: bool) -> None:
    """Say what STORE holds: schema, lengths, sizes, splits, statistics, failures. No row is read."""
    with ending_plainly():
        from builder.inspection import inspect as inspect_store

        found = inspect_store(store)
        if as_json:
            click.echo(json.dumps(found.to_json(), indent=2, allow_nan=False))
            return
        from builder.cli.inspection import inspection_text
        from builder.cli.tables import plain_console, show

        console = plain_console()
        show(inspection_text(found, bar="█" if console.encoding.startswith("utf") else "#"), console)


@main.command(short_help="Check every checksum and invariant of STORE.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--sources", metavar="SOURCES", help="Read the sources again, and compare every row with them.")
@click.option("--manifest", metavar="TABLE", help="The manifest, where it does not lie below SOURCES.")
@click.option("--workers", metavar="N", type=int, help="Processes that read SOURCES; 0: this one.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
def verify(*, store: Path, sources: str | None, manifest: str | None, workers: int | None, as_json: bool) -> None:
    """Check every checksum and invariant of STORE: a line for each problem, exit status 1 if there is one.

    With --sources it says more: whether each row is what the sources say today. They are processed as the build did.
    """
    if sources is None and (manifest is not None or workers is not None):
        raise click.UsageError("--manifest and --workers go with --sources")
    with ending_plainly():
        from dataclasses import asdict

        from builder.cli.amounts import count_text, printable
        from store_spec import open_store
        from store_spec.verify import verify as verify_store

        problems = verify_store(store)
        if sources is not None:
            from builder.against_sources import verify_sources

            with stdout_kept():
                problems += verify_sources(store, sources, manifest=manifest, workers=workers)
        if as_json:
            click.echo(json.dumps({"store": str(store), "problems": [asdict(one) for one in problems]}, indent=2))
        else:
            for problem in problems:
                click.echo(printable(str(problem)))
        if problems:
            sys.exit(FAILED)
        counts = open_store(store).counts
        if not as_json:
            checked = f"{count_text(counts.sequences, 'sequence')}, {count_text(counts.steps, 'step')} checked"
            click.echo(f"all well: {checked}" + (f", and compared with {sources}" if sources is not None else ""))
