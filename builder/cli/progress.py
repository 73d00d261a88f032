"""The progress of a check."""

from __future__ import annotations

from builder.amounts import bytes_text, count_text
from builder.execution.progress_bar import View, pace_text
from builder.maintenance.verification import Checking


def of_check(checking: Checking) -> View:
    """Return the progress of a check.

    >>> of_check(Checking(to_check=5000, checked=1200, problems=2)).account
    '1.2 kB of 5.0 kB checked; 2 problems'
    """
    problems = f"; {count_text(checking.problems, 'problem')}" if checking.problems else ""
    account = f"{bytes_text(checking.checked)} of {bytes_text(checking.to_check)} checked{problems}"
    if not checking.checked:
        return View(fraction=None, pace="starting", account=account)
    done = checking.checked / checking.to_check
    return View(fraction=done, pace=pace_text(done, checking.checked, checking.seconds), account=account)
