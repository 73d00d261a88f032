"""The command `seqzarr compact`: its options, and what it prints."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from builder.amounts import bytes_text, count_text, ratio_text, seconds_text
from builder.cli.exit_status import exit_with_status, stdout_to_stderr
from builder.cli.parameters import OF_ENGINE, GivenStore, add_flags, store_name


@click.command(short_help="Copy STORE to NEW without retired sequences.")
@click.argument("store", type=GivenStore())
@click.argument("new", type=GivenStore())
@click.option(
    "--chunk",
    metavar="SIZE",
    help="Decoded bytes that are compressed together. By default as in STORE, or as in build if --shard is given.",
)
@click.option("--shard", metavar="SIZE", help="Decoded bytes in one file. By default likewise, see --chunk.")
@click.option("--codec", metavar="CODEC", help="As in build. By default as in STORE.")
@click.option(
    "--dtype",
    metavar="DTYPE",
    help="The dtype of inputs and of float labels, such as float32. Values may be rounded; overflow is refused.",
)
@click.option("--label-dtype", metavar="DTYPE", help="The dtype of the labels, also of integers.")
@click.option(
    "--order",
    metavar="ORDER",
    help="The order of the sources: name, length (shortest first), shuffle or shuffle:SEED. By default as in STORE.",
)
@add_flags(OF_ENGINE)
def compact(*, store: Path | str, new: Path | str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Copy the sequences of STORE that are not retired to a new store NEW. STORE is not changed.

    The options can change chunks, shards, codec, order and dtype; otherwise rows and checksums are the same. If the
    command was interrupted, run it again to continue.
    """
    with exit_with_status(new):
        from builder.execution.progress_bar import of_build, show_progress
        from builder.maintenance.compact import compact as compact_store

        shown = show_progress(store_name(new), of_build, begin="reading the tables", visible=not quiet)
        with stdout_to_stderr(), shown as show:
            done = compact_store(store, new, **options, on_progress=show)
        if as_json:
            click.echo(json.dumps(asdict(done) | {"store": str(done.store)}, indent=2))
        elif not quiet:
            behind = f"; {count_text(done.retired, 'retired one')} left behind" if done.retired else ""
            ratio = ratio_text(done.bytes_decoded, done.bytes_written)
            click.echo(
                f"{store_name(new)}: {count_text(done.sequences, 'sequence')}, {done.copied:,} of them copied now, "
                f"{bytes_text(done.bytes_decoded)} decoded, {bytes_text(done.bytes_written)} written ({ratio}) in "
                f"{seconds_text(done.seconds)}{behind}"
            )
            if done.codec is not None:
                click.echo(done.codec)
