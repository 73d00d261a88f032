"""Time stamps of any kind equal those of Python's datetime; ambiguous ones are refused, with their row."""

# ruff: noqa: DTZ001, DTZ007  # local times without a zone are what is tested

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import SourceError, tabular
from builder.formats.table import Table
from builder.frames.step_times import Stamps, read_stamps
from builder.options.table_options import TableOptions
from tests.builder.source_files import write_file

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FORMS = {3: "%Y-%m-%d", 4: "%Y-%m-%dT%H", 5: "%Y-%m-%dT%H:%M", 6: "%Y-%m-%dT%H:%M:%S"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(values: object, decimal: str = ".", **how: object) -> Stamps:
    return stamps_of(pa.table({"t": values}), TableOptions(time=("t",), **how), decimal)  # type: ignore[arg-type]


def stamps_of(table: Any, options: TableOptions, decimal: str = ".") -> Stamps:
    """Read the time stamps of a table that has no other column."""
    rows = Table(columns={}, raw={name: table[name] for name in table.column_names})
    return read_stamps(rows, options.time, options, decimal)


def nanoseconds(moment: datetime) -> int:
    """Compute a moment with Python's integers; a local time as if it were UTC."""
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000


offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1700, 1, 1), datetime(2250, 1, 1))


@given(data=st.data(), zoned=st.booleans(), separator=st.sampled_from("T "), basic=st.booleans())
def test_iso_8601_is_what_datetime_says(data, zoned, separator, basic):
    zones = offsets if zoned else st.none()
    found = data.draw(st.lists(st.tuples(moments, zones).map(lambda one: one[0].replace(tzinfo=one[1])), max_size=8))
    texts = [one.isoformat(separator) for one in found]
    if basic:  # some of them
        texts[::2] = [one[:10].replace("-", "") + one[10:].replace(":", "") for one in texts[::2]]
    stamps = read(pa.array([*texts, None], pa.string()))
    assert stamps.values[:-1].tolist() == [nanoseconds(one) for one in found]
    assert stamps.absent.tolist() == [False] * len(found) + [True]
    assert (stamps.unit, stamps.zone) == ("ns", "UTC" if zoned and found else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-02-29", datetime(2020, 2, 29)),
        ("2020-02", datetime(2020, 2, 1)),
        ("2020-02-29T01:02", datetime(2020, 2, 29, 1, 2)),
        ("2020-02-29 01:02:03,5", datetime(2020, 2, 29, 1, 2, 3, 500_000)),
        ("2020-02-29T01:02:03z", datetime(2020, 2, 29, 1, 2, 3, tzinfo=UTC)),
        ("2020-02-29T01:02:03 +01:30", datetime(2020, 2, 28, 23, 32, 3, tzinfo=UTC)),
        ("2020-02-29T01:02:03-0130", datetime(2020, 2, 29, 2, 32, 3, tzinfo=UTC)),
        ("2020-02-29T01+02", None),
        ("20200229T0102", datetime(2020, 2, 29, 1, 2)),
        ("20200229T010203", datetime(2020, 2, 29, 1, 2, 3)),
        ("20200229 010203,25Z", datetime(2020, 2, 29, 1, 2, 3, 250_000, tzinfo=UTC)),
        ("20200229T0102+0130", datetime(2020, 2, 28, 23, 32, tzinfo=UTC)),
        ("20200229T010203-02", datetime(2020, 2, 29, 3, 2, 3, tzinfo=UTC)),
        ("20200229T01", None),
        ("20200229T01020", None),
        ("20200229T01:02", None),
        ("2020-02-29T0102", None),
        ("2020-02-29T01:02:03+02", datetime(2020, 2, 28, 23, 2, 3, tzinfo=UTC)),
    ],
)
def test_all_notations_of_iso_8601_are_read(text, expected):
    if expected is None:
        with pytest.raises(SourceError, match=r"row 1, column t: .* is not a time stamp of ISO 8601"):
            read([text])
        return
    stamps = read([text])
    assert stamps.values.tolist() == [nanoseconds(expected)]
    assert stamps.zone == ("UTC" if expected.tzinfo else None)


def test_nine_digits_of_a_second_are_kept_and_coarser_units_hold_only_what_they_can():
    assert read(["2020-01-01T00:00:00.123456789"]).values[0] % 10**9 == 123_456_789
    assert read(["2020-01-01T00:00:00.123"], time_unit="ms").values.tolist() == [1577836800123]
    assert read(["0001-01-01", "9999-12-31"], time_unit="s").values.tolist() == [-62135596800, 253402214400]


@given(found=st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2060, 1, 1)), max_size=8))
def test_time_formats_are_parsed_like_python(found):
    form = "%d.%m.%Y, %H h %M:%S.%f"
    texts = [one.strftime(form) for one in found]
    stamps = read(pa.array(texts, pa.string()), time_format=(form,))
    assert stamps.values.tolist() == [nanoseconds(one) for one in found]
    zoned = pa.array([f"{text} +0200" for text in texts], pa.string())
    stamps = read(zoned, time_format=("%Y", f"{form} %z"))
    assert stamps.values.tolist() == [nanoseconds(one) - 7_200 * 10**9 for one in found]
    assert stamps.zone == ("UTC" if found else None)


def test_several_formats_must_not_give_different_moments():
    both = ("%d/%m/%Y", "%m/%d/%Y")
    days = [datetime(2020, 1, 31), datetime(2020, 3, 3), datetime(2020, 12, 31)]
    assert read(["31/01/2020", "03/03/2020", "12/31/2020"], time_format=both).values.tolist() == list(
        map(nanoseconds, days)
    )
    with pytest.raises(SourceError, match=r"row 2, .*'01/02/2020' is 2020-02-01 00:00:00 by '%d/%m/%Y' and 2020-01-02"):
        read(["31/01/2020", "01/02/2020"], time_format=both)


def test_formats_with_a_zone_and_without_are_not_mixed():
    with pytest.raises(SourceError, match=r"row 3, .*'2020 1 .0200' has a zone, but '2020 1' before it has none"):
        read([None, "2020 1", "2020 1 +0200"], time_format=("%Y %m", "%Y %m %z"))


def test_columns_of_time_stamps_keep_their_unit_and_zone():
    for unit, per_second in PER_SECOND.items():
        for zone in (None, "UTC", "Europe/Berlin"):
            column = pa.array([0, 1577836800 * per_second, None], pa.timestamp(unit, zone))
            stamps = read(column)
            assert (stamps.unit, stamps.zone) == (unit, zone and "UTC")
            assert stamps.values.tolist() == [0, 1577836800 * per_second, 0]
            assert stamps.absent.tolist() == [False, False, True]
            for other, times in PER_SECOND.items():
                assert read(column, time_unit=other).values.tolist() == [0, 1577836800 * times, 0]
    stamps = read(pa.array([date(2020, 1, 1), None]))
    assert (stamps.values.tolist(), stamps.unit, stamps.zone) == ([1577836800, 0], "s", None)
    assert read(pa.array([date(2020, 1, 1)], pa.date64()), time_unit="us").values.tolist() == [1577836800 * 10**6]
    with pytest.raises(SourceError, match="its time is not a whole number of s"):
        read(pa.array([1], pa.timestamp("ms")), time_unit="s")
    with pytest.raises(SourceError, match="4,000,000,000,000 s is beyond what int64 holds in ns"):
        read(pa.array([4 * 10**12], pa.timestamp("s")), time_unit="ns")


@pytest.mark.parametrize("unit", PER_SECOND)
def test_numbers_are_integers_of_their_unit_or_rounded_to_nanoseconds(unit):
    per_second = PER_SECOND[unit]
    stamps = read(pa.array([0, 1577836800, None], pa.int32()), time_unit=unit)
    assert (stamps.values.tolist(), stamps.unit, stamps.zone) == ([0, 1577836800, 0], unit, "UTC")
    floats = [0.1, -2.5, 1 / 3, 1e6, 1704067200.25]
    for values in (pa.array(floats), pa.array([repr(value) for value in floats])):
        stamps = read(values, time_unit=unit, elapsed=True)
        assert (stamps.unit, stamps.zone, stamps.elapsed) == ("ns", None, True)
        expected = [round(Fraction(value) * (10**9 // per_second)) for value in floats]
        assert stamps.values.tolist() == expected
    # Times in text are stored in nanoseconds even if all are whole seconds: those of another file may not be.
    stamps = read(pa.array(["1577836800", None]), time_unit="s")
    assert (stamps.values.tolist(), stamps.unit, stamps.zone) == ([1577836800 * 10**9, 0], "ns", "UTC")
    assert read(pa.array(["1577836800.123456789"]), time_unit="s").values.tolist() == [1577836800123456789]
    assert read(pa.array([1.0, math.nan]), time_unit="s").absent.tolist() == [False, True]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@given(
    day=st.integers(0, 364), minutes=st.sampled_from([10, 15, 30]), kind=st.sampled_from(["text", "column", "format"])
)
def test_local_times_are_converted_like_zoneinfo(zone, day, minutes, kind):
    start = datetime(2024, 1, 1, 11, tzinfo=UTC) + timedelta(days=day)
    found = [start + timedelta(minutes=minutes) * number for number in range(1440 // minutes)]
    local = [one.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for one in found]
    if kind == "column":
        stamps = read(pa.array(local, pa.timestamp("ns")), time_zone=zone)
    elif kind == "text":
        stamps = read([one.isoformat(" ") for one in local], time_zone=zone)
    else:
        stamps = read([f"{one:%d.%m.%Y %H:%M}" for one in local], time_zone=zone, time_format=("%d.%m.%Y %H:%M",))
    assert stamps.values.tolist() == [nanoseconds(one) for one in found]
    assert stamps.zone == "UTC"


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (["2024-03-31 01:00", "2024-03-31 02:30"], {}, r"row 2, column t: 2024-03-31T02:30 does not exist in Europe/B"),
        (["2024-10-27 01:00", "2024-10-27 02:30", "2024-10-27 03:00"], {}, "row 2, .*T02:30 occurs twice in Europe/Be"),
        (["2024-10-27 02:30", "2024-10-27 02:30"], {"sort_time": True}, "row 1, .* occurs twice in Europe/Berlin, as"),
        (["2024-10-27 02:30"] * 3, {}, "row 1, .* the order of the rows does not determine which it is; write the zon"),
        (["2023-10-29 02:30", "2023-10-29 02:15", "2024-10-27 02:15"], {}, "row 3, .*T02:15 occurs twice in Europe/B"),
    ],
)
def test_ambiguous_and_nonexistent_local_times_are_refused(values, options, message):
    with pytest.raises(SourceError, match=message):
        read(values, time_zone="Europe/Berlin", **options)


def test_a_zone_is_for_times_without_one():
    values = ["2024-10-27 02:30Z", None]
    assert read(values, time_zone="Europe/Berlin").values.tolist() == read(values).values.tolist()
    assert read([0, 1], time_unit="s", time_zone="Europe/Berlin").values.tolist() == [0, 1]
    stamps = read(["2024-10-27 01:30", None, "2024-10-27 02:30", None, "2024-10-27 02:00"], time_zone="Europe/Berlin")
    hours = [23.5, 24.5, 25]
    day = nanoseconds(datetime(2024, 10, 26))
    assert stamps.values[::2].tolist() == [day + int(hour * 3600) * 10**9 for hour in hours]


def test_dates_times_of_day_and_calendar_columns_are_combined():
    table = pa.table({"d": ["2020-02-29", "2020-03-01"], "c": ["01:02:03.5", "00:00"]})
    stamps = stamps_of(table, TableOptions(time=("d", "c")))
    expected = [datetime(2020, 2, 29, 1, 2, 3, 500_000), datetime(2020, 3, 1)]
    assert stamps.values.tolist() == [nanoseconds(one) for one in expected]
    parts = {"y": [2020, 1900], "m": [2, 12], "d": [29, 31], "h": [23, 0], "min": [59, 0], "s": [1, 0]}
    whole = [datetime(2020, 2, 29, 23, 59, 1), datetime(1900, 12, 31)]
    for count in range(3, 7):
        names = list(parts)[:count]
        for kind in (pa.int64(), pa.float64(), pa.string()):
            table = pa.table({name: pa.array(parts[name]).cast(kind) for name in names})
            stamps = stamps_of(table, TableOptions(time=tuple(names)))
            cut = [datetime.strptime(one.isoformat()[: 4 + 3 * (count - 1)], FORMS[count]) for one in whole]
            assert stamps.values.tolist() == [nanoseconds(one) // 10**9 for one in cut]
            assert (stamps.unit, stamps.zone) == ("s", None)
    with pytest.raises(SourceError, match="column m holds no whole numbers"):
        stamps_of(pa.table({"y": ["2020"], "m": ["0x2"], "d": ["1"]}), TableOptions(time=("y", "m", "d")))


@pytest.mark.parametrize(
    ("values", "how", "message"),
    [
        (["1.2.20 10:00"], {}, r"may begin with a day or with a month; say which with --time-format, such as '%d\.%m"),
        (["16.8.2020"], {}, r"is not a time stamp of ISO 8601; give its format with --time-f.*, such as '%d\.%m\.%Y'"),
        (["8/16/20"], {}, "is not a time stamp of ISO 8601; give its format with --time-format, such as '%m/%d/%y'"),
        (["32.1.2020"], {}, "'32.1.2020' is not a time stamp of ISO 8601, such as 2020-01-31T12:00:00Z"),
        (["2020-01-01T24:00"], {}, "is not a valid date and time"),
        (["2016-12-31T23:59:60Z"], {}, "is not a valid date and time"),
        (["now"], {}, "'now' is not a time stamp of ISO 8601, such as 2020-01-31T12:00:00Z; give its format wi"),
        (["1577836800", "x"], {"time_unit": "s"}, "row 2, column t: 'x' is not a number of s, unlike other values"),
        (["5", "0x10"], {"time_unit": "s"}, "row 2, column t: '0x10' is not a number of s, unlike other values"),
        (["5.5", "1_5"], {"time_unit": "s"}, "row 2, column t: '1_5' is not a number of s, unlike other values"),
        (["1e30"], {"time_unit": "s"}, "1e30 s is beyond what int64 holds in nanoseconds"),
        ([1577836800], {}, "column t holds numbers; give their unit with --time-unit, such as s"),
        (pa.array([2**63], pa.uint64()), {"time_unit": "ns"}, "9223372036854775808 ns is beyond what int64 holds"),
        ([1e300], {"time_unit": "s"}, r"1e\+300 s is beyond what int64 holds in nanoseconds"),
        ([[1]], {}, "column t holds values of type list"),
        (["2020-01-01T00:00Z", "2020-01-01"], {}, "row 2, .*'2020-01-01' has no zone, but '2020-01-01T00:00Z' before"),
    ],
)
def test_ambiguous_times_are_refused(values, how, message):
    with pytest.raises(SourceError, match=message):
        read(values, **how)


def test_times_go_with_their_rows_from_every_format(tmp_path):
    texts = ["2020-01-01T00:00:00", "2020-01-01T00:00:10", "2020-01-01T00:00:20"]
    contents: dict[str, Any] = {
        "x.csv": "when,a\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts)),
        "x.parquet": {"when": texts, "a": [0, 1, 2]},
        "view.parquet": {"when": pa.array(texts, pa.string_view()), "a": [0, 1, 2]},
    }
    for name, content in contents.items():
        (only,) = tabular(time="when")(write_file(tmp_path / name, content))
        assert only.inputs.tolist() == [[0], [1], [2]]
        assert only.time.dtype == "datetime64[ns]"
        assert only.time.tolist() == [nanoseconds(datetime.fromisoformat(text)) for text in texts]
        assert (only.zone, only.columns) == (None, {})
        assert tuple(one.names for one in tabular(time="when").columns(tmp_path / name)) == (("a",), ("a",))
    path = write_file(tmp_path / "x.npy", np.array([[0.0, 5.0], [0.01, 6.0]]))
    (only,) = tabular(time="0", time_unit="s", elapsed=True)(path)
    assert (only.time.dtype, only.time.astype(int).tolist()) == ("timedelta64[ns]", [0, 10_000_000])


def test_decimal_commas_in_text_do_not_affect_columns_of_decimals():
    """Files of text with decimal commas and Parquet files can be the sources of one store."""
    stamps = read(pa.array([Decimal("1.50"), Decimal("2.25")], pa.decimal128(5, 2)), time_unit="s", decimal=",")
    assert stamps.values.tolist() == [1_500_000_000, 2_250_000_000]
