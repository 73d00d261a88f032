"""Run campaigns: `python -m tests.campaigns NAME [NAME ...] [--quick]`; exit status 1 if a promise was violated."""

import argparse
import importlib
import sys
import time

from tests.campaigns.outcome import Outcome

NAMES = (
    "kills", "power-cuts", "failures", "workers", "rot", "fuzz", "rivals", "buckets", "readers", "starts", "stateful",
)  # fmt: skip


def run(name: str, *, quick: bool) -> Outcome:
    # Imported here, because processes started by a campaign import this module again.
    module = importlib.import_module(f"tests.campaigns.{name.replace('-', '_')}")
    outcome: Outcome = module.campaign(quick=quick)
    return outcome


def main() -> int:
    """Run the named campaigns and print their results."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    parser.add_argument("names", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="run the small part that the tests run")
    arguments = parser.parse_args()
    status = 0
    for name in arguments.names:
        begin = time.monotonic()
        outcome = run(name, quick=arguments.quick)
        print(f"{name}: {outcome}\n  took {time.monotonic() - begin:,.1f} s", flush=True)
        status |= not outcome.ok()
    return status


if __name__ == "__main__":
    sys.exit(main())
