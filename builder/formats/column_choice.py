"""Select columns by name, by range, or by number; names in options and messages."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain

from builder.amounts import first_names
from builder.build_errors import SourceError, UsageError

_NAMES, _COLUMNS = 20, 60  # how many names a message lists
_LONGEST = 60  # letters of a name in a message
_QUOTED = re.compile(r'"((?:[^"]|"")*)"\s*(?=[,:=]|$)')
_OPENS = re.compile(r'(?:^|[:=])\s*"')  # a quote at the start of a name


def parse_columns(columns: str | Sequence[str] | None, option: str) -> tuple[str, ...] | None:
    """Split "a,b,c1:c12" into names and ranges; the items of a list are not split.

    Names with commas stand in double quotes; quotes within them are doubled.

    Raises:
        UsageError: A name is empty or occurs twice, or a quote is not closed.

    >>> parse_columns("c1:c3, y", "inputs")
    ('c1:c3', 'y')
    >>> parse_columns('"SpO2, %", "a,b":c', "inputs")
    ('SpO2, %', 'a,b:c')
    """
    if columns is None:
        return None
    parts = _split(columns, option) if isinstance(columns, str) else list(columns)
    if not parts or not all(parts):
        raise UsageError(f"{option}={columns!r} names no column somewhere; write names separated by commas")
    for part in parts:
        if parts.count(part) > 1:
            raise UsageError(f"{option} names {part!r} twice; once will do")
    return tuple(parts)


def _split(text: str, option: str) -> list[str]:
    """Split text at commas outside of quotes. Quotes open only at the start of a name, also after : and =."""
    parts, at = [""], 0
    while at < len(text):
        if text[at] == '"' and (not (before := parts[-1].rstrip()) or before[-1] in ":="):
            match = _QUOTED.match(text, at)
            if match is None:
                raise UsageError(
                    f'{option}={text!r}: quotes go around a whole name, as in a,"b, c",d, and those of the name are '
                    "doubled; close or remove them"
                )
            parts[-1] = before + match[1].replace('""', '"')
            at = match.end()
        elif text[at] == ",":
            parts.append("")
            at += 1
        else:
            parts[-1] += text[at]
            at += 1
    return [part.strip() for part in parts]


def quote(name: str) -> str:
    """Return a name as `parse_columns` reads it, in quotes if necessary.

    >>> quote("a b"), quote("SpO2, %"), quote('5"')
    ('a b', '"SpO2, %"', '5"')
    """
    plain = "," not in name and name.strip() == name and not _OPENS.search(name)
    return name if plain else double_quote(name)


def double_quote(name: str) -> str:
    """Return a name in double quotes, as in CSV."""
    return '"{}"'.format(name.replace('"', '""'))


def as_option(*names: str) -> str:
    """Return names as the value of an option, quoted for a shell.

    >>> print(as_option("a", "b c"), as_option("SpO2, %"))
    'a,b c' '"SpO2, %"'
    """
    return shlex.quote(",".join(map(quote, names)))


def select(selection: Sequence[str], groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the names of the selected columns, in the order of the selection.

    Args:
        selection: Names, names of groups (for all their elements), or ranges `first:last` in file order, both
            ends included. A name with a colon takes precedence over a range.
        groups: The name of each column and those of its elements, in file order.

    >>> select(["b:e[0]", "a"], {"a": ("a",), "b": ("b",), "e": ("e[0]", "e[1]")})
    ('b', 'e[0]', 'a')
    """
    return _select_cached(tuple(selection), tuple(groups.items())) if selection else ()


# Most sources of a build have the same columns.
@lru_cache(maxsize=32)
def _select_cached(selection: tuple[str, ...], groups: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[str, ...]:
    names = [name for _, elements in groups for name in elements]
    position = {name: number for number, name in enumerate(names)}
    by_name = dict(groups)
    selected: dict[str, None] = {}
    misfits: list[str] = []
    for part in selection:
        try:
            items = _select_item(part, names, position, by_name)
        except SourceError as error:
            misfits.append(str(error))
            continue
        for name in items:
            if name in selected:
                raise SourceError(f"column {name} is chosen twice by {','.join(map(quote, selection))}")
            selected[name] = None
    if misfits:
        raise SourceError("; ".join([*(text.partition("; ")[0] for text in misfits[:-1]), misfits[-1]]))
    return tuple(selected)


def _select_item(
    part: str, names: list[str], position: dict[str, int], groups: Mapping[str, tuple[str, ...]]
) -> Sequence[str]:
    """Return the columns of one item of a selection."""

    def elements(name: str) -> tuple[str, ...]:
        return groups.get(name) or ((name,) if name in position else ())

    if columns := elements(part):
        return columns
    if part in groups:
        raise SourceError(
            f"the list column {part} has no elements in the first row, which tells how many there are; leave it out "
            f"with --exclude {as_option(part)}"
        )
    for first, last in _ranges(part):
        start, stop = elements(first), elements(last)
        if start and stop:
            between = names[position[start[0]] : position[stop[-1]] + 1]
            if not between:
                raise SourceError(f"the range {part} runs backwards: {first} comes after {last} in the file")
            return between
    ends = next(_ranges(part), (part, part))
    lacking = next(end for end in ends if not elements(end))
    raise SourceError(f"there is no column {lacking!r}; {column_list(list(groups))}")


def is_range(part: str, groups: Mapping[str, tuple[str, ...]]) -> bool:
    """Return whether an item of a selection is a range of columns.

    >>> is_range("a:c", {"a": ("a",), "c": ("c",)}), is_range("a:c", {"a:c": ("a:c",), "a": ("a",), "c": ("c",)})
    (True, False)
    """
    names = {*groups, *chain.from_iterable(groups.values())}
    return part not in names and any(names.issuperset(ends) for ends in _ranges(part))


def _ranges(part: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to read `part` as a range, since names can contain colons."""
    for number, letter in enumerate(part):
        if letter == ":":
            yield part[:number].strip(), part[number + 1 :].strip()


def column_list(names: Sequence[str]) -> str:
    """Return the number of columns and the first of their names."""
    return f"there are {len(names):,}: {list_names(names, most=_COLUMNS)}"


def list_names(names: Sequence[str], most: int = _NAMES) -> str:
    """Return the first names, separated by commas; long names are cut, and names with commas quoted."""
    return first_names([quote(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...") for name in names], most)


def parse_number(text: str) -> float | None:
    """Parse an int of any size or a float; return None if the text is neither.

    >>> parse_number(" -999"), parse_number("1e3"), parse_number("?"), parse_number("9007199254740993")
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


def in_order_of_store(names: tuple[str, ...], of_store: tuple[str, ...] | None, what: str) -> tuple[str, ...]:
    """Return columns in the order of the store, since files may order them differently; refuse other columns."""
    if of_store is None or names == of_store:
        return names
    if set(names) == set(of_store):
        return of_store
    lacking = [name for name in of_store if name not in names]
    beyond = [name for name in names if name not in of_store]
    parts = [f"{verb} {list_names(some)}" for verb, some in (("lacks", lacking), ("has besides", beyond)) if some]
    raise SourceError(
        f"its columns for the {what} are not those of the store: it {' and '.join(parts)}; name the columns to take "
        f"with --{what}, or leave some out with --exclude"
    )
