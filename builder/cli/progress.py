"""The progress of a check, and the line after a build."""

from __future__ import annotations

from builder.amounts import bytes_text, count_text, ratio_text, seconds_text
from builder.cli.attention import ignored_text
from builder.execution.progress_bar import View, pace_text
from builder.execution.report import Report
from builder.maintenance.verification import Checking
from builder.planning.resolved_sources import open_if_exists


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


def summary(report: Report) -> str:
    """Return the line after a build. Its ratio is the decoded bytes of rows divided by the bytes of their shards."""
    name, failed = report.store.name or str(report.store), len(report.failures)
    skipped = len(report.skipped) + report.skipped_before
    left_out = f"{failed:,} failed" + (f", {skipped:,} skipped as empty" if skipped else "")
    # A store exists even if all of its sequences are retired.
    if not report.total_sequences and report.sources == failed + skipped and open_if_exists(report.store) is None:
        why = [f"{count_text(failed, 'source')} failed"] * bool(failed)
        why += [f"{count_text(skipped, 'source')} skipped as empty"] * bool(skipped)
        return f"{name}: no store was made: {', '.join(why)}, none could be used"
    ignored = ignored_text(report.ignored, report.ignored_listed)
    unchanged = f", {report.unchanged:,} unchanged" if report.unchanged else ""
    counted = (("added", report.added), ("built again", report.updated), ("retired", report.retired))
    done = ", ".join(f"{count_text(number, 'source')} {what}" for what, number in counted if number)
    if not report.sequences:
        return f"{name}: {done or 'nothing new'}{unchanged}; {left_out}{ignored}"
    ratio = f" ({ratio_text(report.bytes_decoded, report.bytes_written)})" if report.bytes_written else ""
    read = report.added + report.updated
    sequences = "" if report.sequences == read else f"{count_text(report.sequences, 'sequence')}, "
    steps = f"{count_text(report.steps, 'step')}{cleaning_text(report.dropped, report.filled)}"
    return (
        f"{name}: {done}{unchanged}, {sequences}{steps}, {bytes_text(report.bytes_read)} read, "
        f"{bytes_text(report.bytes_decoded)} decoded, {bytes_text(report.bytes_written)} written{ratio} "
        f"in {seconds_text(report.seconds)}; {left_out}{ignored}"
    )


def cleaning_text(dropped: int, filled: int) -> str:
    """Say what cleaning did, as a part of a sentence.

    >>> cleaning_text(1, 2000), cleaning_text(0, 0)
    (' (1 more dropped, 2,000 values filled in)', '')
    """
    texts = [f"{dropped:,} more dropped"] * bool(dropped) + [f"{count_text(filled, 'value')} filled in"] * bool(filled)
    return f" ({', '.join(texts)})" if texts else ""
