"""Text for people: bytes, times, counts and shares; and untrusted text, made safe for a terminal."""

import math
import re
from collections.abc import Iterable, Sequence

LONGEST_NAME = 80


def bytes_text(size: float) -> str:
    """Return a number of bytes as text, in powers of 1,000.

    >>> bytes_text(812), bytes_text(412_345), bytes_text(2_500_000_000)
    ('812 bytes', '412.3 kB', '2.5 GB')
    """
    from rich.filesize import decimal  # late, for `--help`

    return decimal(round(size))


def seconds_text(seconds: float) -> str:
    """Return a duration as text.

    >>> seconds_text(2.14), seconds_text(102.7), seconds_text(7265)
    ('2.1 s', '1:42', '2:01:05')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ratio_text(decoded: float, stored: float) -> str:
    """Return a compression ratio as text.

    >>> ratio_text(32, 10), ratio_text(1, 22), ratio_text(8_000_000, 3_263), ratio_text(0, 0)
    ('3.2 to 1', '1 to 22.0', '2,451.7 to 1', '-')
    """
    if not (decoded and stored):
        return "-"
    return f"{decoded / stored:,.1f} to 1" if decoded >= stored else f"1 to {stored / decoded:,.1f}"


def count_text(count: int, one: str, many: str = "") -> str:
    """Return a count and its noun.

    >>> count_text(1, "source"), count_text(4274, "step"), count_text(0, "series", "series")
    ('1 source', '4,274 steps', '0 series')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def number_text(value: float | None) -> str:
    """Return a number as text: whole numbers exactly, others with about five digits.

    >>> number_text(12_345_678), number_text(0.000123456), number_text(-1533.9), number_text(True), number_text(None)
    ('12,345,678', '0.00012346', '-1,533.9', 'True', '-')
    """
    if value is None:
        return "-"
    if isinstance(value, bool) or not math.isfinite(value):
        return str(value)
    if isinstance(value, int) or (value == round(value) and abs(value) < 1e9):
        return f"{value:,.0f}" if isinstance(value, float) else f"{value:,}"
    return f"{value:,.5g}" if abs(value) < 1e5 or abs(value) >= 1e9 else f"{value:,.0f}"


def percent_text(share: float) -> str:
    """Return a share in percent, with three digits; 0 % and 100 % are exact.

    >>> percent_text(0.0), percent_text(1e-6), percent_text(0.00225), percent_text(0.9999), percent_text(1.0)
    ('0 %', '<0.01 %', '0.225 %', '>99.9 %', '100 %')
    """
    percent = 100 * share
    if 0 < percent < 0.01:
        return "<0.01 %"
    return ">99.9 %" if 99.9 < percent < 100 else f"{percent:.3g} %"


def short_name(name: str, longest: int = LONGEST_NAME) -> str:
    """Return a name on one line; a long name is shortened to its start and end.

    >>> short_name("a" * 60 + "b" * 60, longest=10)
    'aaaa…bbbbb'
    """
    text, half = printable(name), longest // 2
    return text if len(text) <= longest else f"{text[: longest - half - 1]}…{text[-half:]}"


def first_names(names: Sequence[str], most: int = 5) -> str:
    """Return the first names as text.

    >>> first_names(["a", "b"]), first_names("abcdefg")
    ('a, b', 'a, b, c, d, e, ...')
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def ignored_text(files: int, listed: Iterable[str]) -> str:
    """Return the number of ignored files, and the first of them, as the end of a sentence.

    >>> ignored_text(9, ["note.md", "run.sh"]), ignored_text(0, [])
    ('; 9 files ignored (note.md, run.sh, ...)', '')
    """
    names = ", ".join([*listed, *["..."] * (files > len(tuple(listed)))])
    return f"; {count_text(files, 'file')} ignored ({printable(names)})" if files else ""


def printable(text: str) -> str:
    r"""Return text on one line, with control characters escaped, so that it cannot command the terminal.

    >>> printable("no\n such\x1b[2Jcolumn")
    'no such\\x1b[2Jcolumn'
    """
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in line)
