"""The command `seqzarr`: a thin layer over functions of the same names.

What takes long to import is imported when a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from builder.cli.build import build
from builder.cli.compact import compact
from builder.cli.ending import ending_plainly
from builder.cli.verify import verify


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
main.add_command(verify)
main.add_command(compact)


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
