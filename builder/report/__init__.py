"""A store on one page of HTML: what is shown is apart from how it looks."""

from builder.report.page import write_report

__all__ = ["write_report"]
