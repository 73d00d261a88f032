"""The command `seqzarr verify`: its options, and what it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from builder.cli.amounts import count_text, printable
from builder.cli.ending import FAILED, ending_plainly, stdout_kept


@click.command(short_help="Check every checksum and invariant of STORE.")
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--sources", metavar="SOURCES", help="Read the sources again, and compare every row with them.")
@click.option("--manifest", metavar="TABLE", help="The manifest, where it does not lie below SOURCES.")
@click.option(
    "--workers", metavar="N", type=int, help="Processes; 0: this one. By default one a core, or 0 for little."
)
@click.option("--scheduler", metavar="ADDRESS", help="Of a dask scheduler to use instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
@click.option("--quiet", is_flag=True, help="Print nothing but problems.")
def verify(
    *,
    store: Path,
    sources: str | None,
    manifest: str | None,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check every checksum and invariant of STORE: a line for each problem, exit status 1 if there is one.

    With --sources it says more: whether each row is what the sources say today. They are processed as the build did.
    """
    if sources is None and manifest is not None:
        raise click.UsageError("--manifest goes with --sources")
    with ending_plainly():
        from dataclasses import asdict

        from builder.cli.progress import of_check, showing
        from builder.verification import verify as verify_store
        from store_spec import open_store

        name = store.name or str(store)
        with stdout_kept():
            with showing(name, of_check, begin="reading the tables", visible=not quiet) as show:
                problems = verify_store(store, workers=workers, scheduler=scheduler, on_progress=show)
            if sources is not None:
                from builder.against_sources import verify_sources

                with showing(name, of_check, begin="listing the sources", visible=not quiet) as show:
                    problems += verify_sources(
                        store, sources, manifest=manifest, workers=workers, scheduler=scheduler, on_progress=show
                    )
        if as_json:
            click.echo(json.dumps({"store": str(store), "problems": [asdict(one) for one in problems]}, indent=2))
        else:
            for problem in problems:
                click.echo(printable(str(problem)))
        if problems:
            sys.exit(FAILED)
        if not as_json and not quiet:
            counts = open_store(store).counts
            checked = f"{count_text(counts.sequences, 'sequence')}, {count_text(counts.steps, 'step')} checked"
            click.echo(f"all well: {checked}" + (f", and compared with {sources}" if sources is not None else ""))
