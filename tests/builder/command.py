"""Run the command `seqzarr` in this process, and Python in another one."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from builder.cli import main
from store_spec import open_store

ROOT = Path(__file__).parents[2]


def seqzarr(
    *arguments: object, status: int | None = None, env: Mapping[str, str] | None = None, charset: str = "utf-8"
) -> Result:
    """Run `seqzarr` with these arguments, and check its exit status; exceptions other than an exit are raised."""
    texts = [str(argument) for argument in arguments]
    result = CliRunner(charset=charset).invoke(main, texts, env=env, prog_name="seqzarr")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert status in (None, result.exit_code), result.output
    assert status != 2 or result.stdout == ""  # of wrong usage
    return result


def seqzarr_build(*arguments: object, status: int | None = None) -> Result:
    """Run `seqzarr build` in this process, without workers."""
    return seqzarr("build", *arguments, "--workers", 0, status=status)


def run_inspect(*arguments: object, status: int | None = None, columns: int = 80) -> Result:
    """Run `seqzarr inspect` in this process, as in a terminal of this width."""
    return seqzarr("inspect", *arguments, status=status, env={"COLUMNS": str(columns)})


def python(*arguments: object, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in another process, which finds this checkout from any folder."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, env=environment)


def recorded(store: Path) -> Any:
    """Return what a store records about its build."""
    return open_store(store).provenance["build"]
