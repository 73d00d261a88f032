"""The command `seqzarr`: a thin layer over functions of the same names.

Modules that take long to import are imported when a command needs them, so that `--help` answers at once.
"""

import sys
from io import TextIOWrapper

import click

from builder.cli.build_command import build
from builder.cli.compact_command import compact
from builder.cli.inspect_command import inspect
from builder.cli.verify_command import verify


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="seqzarr", message="seqzarr %(version)s")
def main() -> None:
    """Turn a folder of sequence files into one Zarr store, for training sequence models."""
    # File names may contain letters that the terminal cannot encode; stderr escapes these by itself.
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


main.add_command(build)
main.add_command(inspect)
main.add_command(verify)
main.add_command(compact)
