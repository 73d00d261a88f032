"""Run campaigns: `python -m tests.campaigns NAME [NAME ...] [--quick]`; exit status 1 when a promise was broken."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

from tests.campaigns.outcome import Outcome


def names() -> dict[str, str]:
    """Return the module of each campaign, by the name that it gives itself."""
    found = {}
    for entry in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if not entry.name.startswith(("_", "test_")):
            module = importlib.import_module(f"tests.campaigns.{entry.name}")
            if hasattr(module, "campaign"):
                found[module.NAME] = module.__name__
    return found


def run(name: str, *, quick: bool) -> Outcome:
    outcome: Outcome = importlib.import_module(names()[name]).campaign(quick=quick)
    return outcome


def main() -> int:
    """Run the campaigns that are named, and print their figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(names()), metavar="NAME", help=", ".join(sorted(names())))
    parser.add_argument("--quick", action="store_true", help="the slice that runs in CI")
    given = parser.parse_args()
    status = 0
    for name in given.names:
        outcome = run(name, quick=given.quick)
        print(outcome, flush=True)
        status |= not outcome.ok()
    return status


if __name__ == "__main__":
    sys.exit(main())
