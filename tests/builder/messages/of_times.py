"""Mistakes with times of steps."""

from __future__ import annotations

import datetime as dt
from typing import Final

from tests.builder.messages.mistakes import Mistake


def _mistake(what: str, options: str, *stamps: str) -> Mistake:
    rows = "".join(f"{stamp},{number}\n" for number, stamp in enumerate(stamps))
    return Mistake(what, f"--time t {options}", {"a.csv": f"t,y\n{rows}"})


MISTAKES: Final = (
    Mistake("dates as an input", "", {"a.parquet": {"my day": [dt.date(2020, 1, 1)], "x": [1.0]}}),
    Mistake("a column of times that is not there", "--time when"),
    Mistake("an option of times, and no times", "--max-gap 2h"),
    _mistake("a day or a month", "", "01/02/2020", "02/02/2020"),
    _mistake("two formats that say different days", "--time-format %d/%m/%Y --time-format %m/%d/%Y", "1/2/2020"),
    _mistake("a format that does not fit", "--time-format %d.%m.%Y", "31.01.2020", "1/2/2020"),
    _mistake("a format without a year", "--time-format %H:%M", "10:00"),
    _mistake("a time of day alone", "", "10:00"),
    _mistake("a day that is in no calendar", "", "2020-02-28", "2021-02-29"),
    _mistake("numbers of nobody knows what", "", "1577836800", "1577836810"),
    _mistake("a unit that is none", "--time-unit min", "1"),
    _mistake("a stamp with a zone among others without", "", "2020-01-01T00:00", "2020-01-01T01:00+01:00"),
    _mistake("a year beyond nanoseconds", "", "1600-01-01"),
    _mistake("a fraction of a second in whole seconds", "--time-unit s", "2020-01-01T00:00:00.5"),
    _mistake("times in no order", "", "2020-01-01", "2020-01-03", "2020-01-02"),
    _mistake("the hour that comes twice in autumn", "", "2020-10-25T02:00", "2020-10-25T02:30", "2020-10-25T02:00"),
    _mistake("a time that comes twice", "", "2020-01-01", "2020-01-01"),
    _mistake("a row without a time", "", "2020-01-01", "", "2020-01-03"),
    _mistake("no row with a time", "--missing drop --empty error", "", ""),
    _mistake("a step that is off", "--every 10s", *(f"2020-01-01T00:00:{second}Z" for second in ("00", "10", "25.5"))),
    _mistake("a gap that is no time", "--max-gap 2", "2020-01-01"),
    _mistake("a gap of months or of minutes", "--max-gap 15M", "2020-01-01"),
    _mistake("gaps shorter than steps", "--max-gap 1s --every 1min", "2020-01-01"),
    _mistake("stamps that have elapsed", "--elapsed", "2020-01-01"),
    Mistake("a calendar of fractions", "--time year,month,day", {"a.csv": "year,month,day,y\n2020,1,1.5,0\n"}),
    *(
        Mistake(f"a calendar that has no {what}", "--time year,month,day", {"a.csv": f"year,month,day,y\n{day},0\n"})
        for what, day in (("such day", "2020,2,30"), ("such month", "2021,13,1"), ("such year", "-999,1,1"))
    ),
    Mistake("a year without its century", "--time year,month,day", {"a.csv": "year,month,day,y\n21,2,29,0\n"}),
)
