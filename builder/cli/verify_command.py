"""The command `seqzarr verify`: its options, and what it prints."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from builder.amounts import count_text, printable
from builder.cli.exit_status import FAILED, exit_with_status, stdout_to_stderr
from builder.cli.parameters import OF_ENGINE, GivenPath, GivenStore, add_flags, store_name

if TYPE_CHECKING:
    from builder.maintenance.repair import Repair
    from store_spec import Problem


@click.command(short_help="Check every checksum and invariant of STORE.")
@click.argument("store", type=GivenStore())
@click.option(
    "--sources",
    metavar="SOURCES",
    type=GivenPath(readable=False),
    help="Also process SOURCES again, and compare every row.",
)
@click.option("--repair", is_flag=True, help="Restore damaged shards of rows from SOURCES, byte for byte.")
@click.option(
    "--process",
    metavar="MODULE:FUNCTION",
    help="The process function, if it cannot be imported by the name that STORE records.",
)
@click.option(
    "--manifest", metavar="TABLE", type=GivenPath(readable=False), help="The manifest, if it is outside SOURCES."
)
@click.option("--labels-from", metavar="PATTERN", help="The pattern of the build, if it leads outside SOURCES.")
@add_flags(OF_ENGINE)
def verify(
    *,
    store: Path | str,
    sources: str | None,
    repair: bool,
    process: str | None,
    manifest: str | None,
    labels_from: str | None,
    as_json: bool,
    quiet: bool,
    **engine: Any,
) -> None:
    """Check every checksum and invariant of STORE; print one line per problem. The exit status is 1 if there are any.

    STORE is a path, or a URL such as s3://bucket/store.zarr.

    A problem that concerns only retired sequences is listed, but is not a failure: readers skip these, and compact does
    not copy them.

    --sources also processes the current sources as the build did, and compares every row.

    --repair restores damaged shards of rows: it processes the sources of the lost rows again, and writes a shard only
    if its rows are the same as before. Other damage needs a new store; the messages say so.
    """
    with_sources = {"--manifest": manifest, "--process": process, "--labels-from": labels_from, "--repair": repair}
    if process is not None and labels_from is not None:
        raise click.UsageError("--labels-from: for tables, which --process replaces; leave out one or the other")
    for flag, value in with_sources.items():
        if sources is None and value not in (None, False):
            raise click.UsageError(f"{flag} goes with --sources")
    if repair and not isinstance(store, Path):
        raise click.UsageError("--repair: for a store on a local disk")
    with exit_with_status():
        from builder.execution.progress_bar import show_progress
        from builder.maintenance.checks import of_check
        from builder.maintenance.checks import verify as verify_store
        from builder.planning.resolved_options import tabular_from_flags

        function = process if labels_from is None else tabular_from_flags({"labels_from": labels_from}, store)
        options: dict[str, Any] = {"process": function, "manifest": manifest, **engine}
        shown = partial(show_progress, store_name(store), of_check, visible=not quiet)
        if sources is not None and repair:
            from builder.maintenance.repair import repair as repair_store

            with stdout_to_stderr(), shown(begin="reading the tables") as show:
                done = repair_store(store, sources, **options, on_progress=show)
            _print_repair(store, done, as_json=as_json, quiet=quiet)
            problems = [*done.left]
        else:
            with stdout_to_stderr():
                with shown(begin="reading the tables") as show, warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    problems = verify_store(store, **engine, on_progress=show)
                for one in said:
                    click.echo(printable(str(one.message)), err=True)
                if sources is not None:
                    with shown(begin="listing the sources") as show:
                        problems += _compare(store, sources, options | {"on_progress": show})
            _print_problems(store, problems, sources, as_json=as_json, quiet=quiet)
        if not all(problem.retired for problem in problems):
            sys.exit(FAILED)


def _compare(store: Path | str, sources: str, options: dict[str, Any]) -> list[Problem]:
    """Compare a store with its sources; damaged tables are returned as a problem."""
    from builder.maintenance.checks import verify_sources
    from store_spec import Problem, StoreError

    try:
        return verify_sources(store, sources, **options)
    except StoreError as error:
        what = f"not compared with the sources: {error}"
        return [Problem(store=store_name(store), where="", what=what)]


def _print_problems(
    store: Path | str, problems: list[Problem], sources: str | None, *, as_json: bool, quiet: bool
) -> None:
    if as_json:
        click.echo(json.dumps({"store": str(store), "problems": [asdict(one) for one in problems]}, indent=2))
        return
    for problem in problems:
        click.echo(printable(str(problem)))
    if all(problem.retired for problem in problems) and not quiet:
        from store_spec import open_store

        lengths = open_store(store).lengths  # without retired sequences, which are not compared with sources
        checked = f"{count_text(len(lengths), 'sequence')}, {count_text(int(lengths.sum()), 'step')} checked"
        but = " but for what is retired" if problems else ""
        click.echo(f"all well{but}: {checked}" + (f", and compared with {sources}" if sources is not None else ""))


def _print_repair(store: Path | str, done: Repair, *, as_json: bool, quiet: bool) -> None:
    """Print what was damaged, restored, and could not be restored."""
    if as_json:
        click.echo(json.dumps({"store": str(store)} | asdict(done), indent=2))
        return
    left = {problem.where for problem in done.left}
    fixed = [] if quiet else [f"was wrong: {problem}" for problem in done.found if problem.where not in left]
    for line in (*fixed, *done.left):
        click.echo(printable(str(line)))
    for failure in done.failures:
        click.echo(printable(str(failure)), err=True)
    if not quiet:
        alone = ", of retired sequences alone" if all(problem.retired for problem in done.left) else ""
        result = f"{count_text(len(done.files), 'shard')} restored" if done.found else "nothing was wrong"
        now = f"{count_text(len(done.left), 'problem')} left{alone}" if done.left else "all well"
        click.echo(f"{store_name(store)}: {result}; {now}")
