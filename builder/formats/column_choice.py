"""Choosing columns by name, by range, or by number."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

from builder.build_errors import SourceError, UsageError

_LISTED, _COLUMNS = 20, 60
_LONGEST = 60  # letters of a name
_QUOTED = re.compile(r'"((?:[^"]|"")*)"\s*(?=[,:=]|$)')
_OPENS = re.compile(r'(?:^|[:=])\s*"')  # where a quote would be taken for the beginning of a name in quotes


def parse_columns(columns: str | Sequence[str] | None, option: str) -> tuple[str, ...] | None:
    """Take apart "a,b,c1:c12"; in a list, each item is one name or range, commas and all.

    In text, names with commas stand in double quotes, in which those of the name are doubled.

    Raises:
        UsageError: Nothing is chosen, or the same twice, or a quote is not closed.

    >>> parse_columns("c1:c3, y", "inputs")
    ('c1:c3', 'y')
    >>> parse_columns('"SpO2, %", "a,b":c', "inputs")
    ('SpO2, %', 'a,b:c')
    """
    if columns is None:
        return None
    parts = _parts(columns, option) if isinstance(columns, str) else list(columns)
    if not parts or not all(parts):
        raise UsageError(f"{option}={columns!r} names no column somewhere; write names separated by commas")
    for part in parts:
        if parts.count(part) > 1:
            raise UsageError(f"{option} names {part!r} twice; once will do")
    return tuple(parts)


def _parts(text: str, option: str) -> list[str]:
    """Cut text at the commas that do not stand in quotes; these begin where a name does: also behind : and =."""
    parts, at = [""], 0
    while at < len(text):
        if text[at] == '"' and (not (before := parts[-1].rstrip()) or before[-1] in ":="):
            found = _QUOTED.match(text, at)
            if found is None:
                raise UsageError(
                    f'{option}={text!r}: quotes go around a whole name, as in a,"b, c",d, and those of the name are '
                    "doubled; close or remove them"
                )
            parts[-1] = before + found[1].replace('""', '"')
            at = found.end()
        elif text[at] == ",":
            parts.append("")
            at += 1
        else:
            parts[-1] += text[at]
            at += 1
    return [part.strip() for part in parts]


def quoted(name: str) -> str:
    """Write a name as `parse_columns` reads it, in quotes where it has to be.

    >>> quoted("a b"), quoted("SpO2, %"), quoted('5"')
    ('a b', '"SpO2, %"', '5"')
    """
    plain = "," not in name and name.strip() == name and not _OPENS.search(name)
    return name if plain else in_quotes(name)


def in_quotes(name: str) -> str:
    """Write a name in double quotes, those of the name doubled, as CSV has them."""
    return '"{}"'.format(name.replace('"', '""'))


def as_option(*names: str) -> str:
    """Write names as an option takes them, so that it can be pasted into a shell.

    >>> print(as_option("a", "b c"), as_option("SpO2, %"))
    'a,b c' '"SpO2, %"'
    """
    return shlex.quote(",".join(map(quoted, names)))


def select(selection: Sequence[str], groups: Mapping[str, tuple[str, ...]], source: str) -> tuple[str, ...]:
    """Return the names of the chosen columns, in the order of the selection.

    Args:
        selection: Names, names of groups (for all their elements), or ranges `first:last` in file order, both
            ends included. A name that has a colon in it wins over a range.
        groups: Each column's name and those of its elements, in file order.
        source: For errors.

    Raises:
        SourceError: A column is not there (the error lists those that are), a range runs backwards, or a
            column is chosen twice.

    >>> select(["b:e[0]", "a"], {"a": ("a",), "b": ("b",), "e": ("e[0]", "e[1]")}, "x.parquet")
    ('b', 'e[0]', 'a')
    """
    if not selection:
        return ()
    try:
        return _selected(tuple(selection), tuple(groups.items()))
    except _MisfitError as error:
        raise SourceError(source, str(error)) from None


class _MisfitError(Exception):
    """A selection does not fit a file's columns; the message says why."""


# Most sources of a build have the same columns.
@lru_cache(maxsize=32)
def _selected(selection: tuple[str, ...], groups: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[str, ...]:
    """Return the names of the chosen columns, in the order of the selection."""
    names = [name for _, elements in groups for name in elements]
    position = {name: number for number, name in enumerate(names)}
    by_name = dict(groups)
    chosen: dict[str, None] = {}
    for part in selection:
        for name in _chosen(part, names, position, by_name):
            if name in chosen:
                raise _MisfitError(f"column {name} is chosen twice by {','.join(map(quoted, selection))}")
            chosen[name] = None
    return tuple(chosen)


def _chosen(
    part: str, names: list[str], position: dict[str, int], groups: Mapping[str, tuple[str, ...]]
) -> Sequence[str]:
    """Return the columns that one item of a selection names."""

    def elements(name: str) -> tuple[str, ...]:
        return groups.get(name) or ((name,) if name in position else ())

    if found := elements(part):
        return found
    if part in groups:
        raise _MisfitError(
            f"the list column {part} has no elements in the first row, which tells how many there are; leave it out "
            f"with --exclude {as_option(part)}"
        )
    for first, last in _cuts(part):
        start, stop = elements(first), elements(last)
        if start and stop:
            between = names[position[start[0]] : position[stop[-1]] + 1]
            if not between:
                raise _MisfitError(f"the range {part} runs backwards: {first} comes after {last} in the file")
            return between
    ends = next(_cuts(part), (part, part))
    lacking = next(end for end in ends if not elements(end))
    raise _MisfitError(f"there is no column {lacking!r}; {there_are(list(groups))}")


def _cuts(part: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to read `part` as a range; names can have colons in them."""
    for number, letter in enumerate(part):
        if letter == ":":
            yield part[:number].strip(), part[number + 1 :].strip()


def there_are(names: Sequence[str]) -> str:
    """List the columns that are there, the first few of many."""
    return f"there are {len(names):,}: {listed(names, most=_COLUMNS)}"


def listed(names: Sequence[str], most: int = _LISTED) -> str:
    """Write names one after another, the first few of many, the start of long ones, and those with commas in quotes."""
    shown = [quoted(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...") for name in names[:most]]
    return ", ".join(shown) + (", ..." if len(names) > most else "")


def number_in(text: str) -> float | None:
    """Return the number that text is, whole ones as int however large; None: it is none.

    >>> number_in(" -999"), number_in("1e3"), number_in("?"), number_in("9007199254740993")
    (-999, 1000.0, None, 9007199254740993)
    """
    if len(text) > _LONGEST:
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def in_order_of_store(
    names: tuple[str, ...], wanted: tuple[str, ...] | None, what: str, source: str
) -> tuple[str, ...]:
    """Return the columns in the order of the store: two files may have them in different ones.

    Raises:
        SourceError: They are others.
    """
    if wanted is None or names == wanted:
        return names
    if set(names) == set(wanted):
        return wanted
    lacking = [name for name in wanted if name not in names]
    beyond = [name for name in names if name not in wanted]
    parts = [f"{verb} {listed(some)}" for verb, some in (("lacks", lacking), ("has besides", beyond)) if some]
    raise SourceError(
        source,
        f"its columns for the {what} are not those of the store: it {' and '.join(parts)}; name the columns to take "
        f"with --{what}, or leave some out with --exclude",
    )
