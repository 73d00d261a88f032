"""The command `seqzarr inspect`: its options, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from builder.amounts import printable
from builder.cli.exit_status import exit_with_status
from builder.cli.parameters import GivenPath, GivenStore

if TYPE_CHECKING:
    from builder.inspection import Inspection, SourceInspection


@click.command(short_help="Show what STORE contains.", context_settings={"show_default": True})
@click.argument("store", type=GivenStore())
@click.option("--sequence", "source", metavar="NAME", help="Show the sequences of one source, and some of its rows.")
@click.option("--shuffle", metavar="WINDOW", type=int, help="Show how well shuffling mixes windows of this many steps.")
@click.option("--stride", metavar="N", default=1, help="With --shuffle: steps between the starts of windows.")
@click.option("--horizon", metavar="N", default=1, help="With --shuffle: label steps after each window.")
@click.option("--lead", metavar="N", default=0, help="With --shuffle: steps between window and label.")
@click.option("--sampling-rate", metavar="N", default=1, help="With --shuffle: steps between the rows of a window.")
@click.option(
    "--target",
    type=click.Choice(["future", "last", "aligned", "sequence"]),
    help="With --shuffle: which labels a window has. By default sequence if the store has one label per sequence, "
    "otherwise future.",
)
@click.option(
    "--short",
    type=click.Choice(["drop", "pad"]),
    default="drop",
    help="With --shuffle: drop or pad sequences that are shorter than a window.",
)
@click.option("--batch", metavar="N", default=256, help="With --shuffle: windows in a batch.")
@click.option("--memory", metavar="SIZE", default="256MB", help="With --shuffle: the memory for reading.")
@click.option("--seed", metavar="N", default=0, help="With --shuffle: the seed of the order.")
@click.option("--epoch", metavar="N", default=0, help="With --shuffle: the number of the epoch.")
@click.option(
    "--split-by", metavar="COL", help="Show the splits by a column of the sequences, as in store.split(by=COL)."
)
@click.option(
    "--html", metavar="FILE", type=GivenPath(path_type=Path), help="Write a page that shows everything in a browser."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and nothing else.")
@click.pass_context
def inspect(
    context: click.Context,
    /,
    *,
    store: Path | str,
    source: str | None,
    shuffle: int | None,
    split_by: str | None,
    html: Path | None,
    as_json: bool,
    **shuffle_options: Any,
) -> None:
    """Show the schema, lengths, sizes, splits, statistics and failures of STORE, without reading rows.

    STORE is a path, or a URL such as s3://bucket/store.zarr.

    --html FILE writes a self-contained page with histograms, plots of some sequences, and the splits side by side. It
    reads a sample of rows, always the same one; --json then includes its results.

    --shuffle compares the shuffling of windows with a global shuffle: how many sequences are in a batch, and how far
    apart in the epoch neighbouring windows are.
    """
    for name in shuffle_options:
        if shuffle is None and context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --shuffle")
    if source is not None and (shuffle is not None or html is not None):
        raise click.UsageError(f"--sequence shows one source, without --{'html' if shuffle is None else 'shuffle'}")
    if split_by is not None and source is not None:
        raise click.UsageError("--split-by goes without --sequence")
    with exit_with_status():
        if source is not None:
            from builder.inspection import inspect_source

            _show(inspect_source(store, source), as_json=as_json)
            return
        from builder.inspection import Shuffle
        from builder.inspection import inspect as inspect_store

        shuffled = None if shuffle is None else Shuffle(window=shuffle, **shuffle_options)
        document = inspect_store(store, shuffle=shuffled, split_by=split_by, rows=html is not None)
        if html is not None:
            from builder.inspection.as_html import write_page

            write_page(document, html)
            click.echo(f"wrote {printable(str(html))}", err=as_json)
        if html is None or as_json:
            _show(document, as_json=as_json)


def _show(document: Inspection | SourceInspection, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document.to_json(), indent=2, allow_nan=False))
        return
    from builder.inspection import Inspection
    from builder.inspection.as_text import inspection_text, source_text
    from builder.inspection.terminal import show

    show(inspection_text(document) if isinstance(document, Inspection) else source_text(document))
