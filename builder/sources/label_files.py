r"""Labels in another file beside each source: which file is whose, by `--labels-from`.

`labels/{stem}.csv` names it by the parts of the source's name. `forcing/(\d+)_.* -> flow/{1}.csv` finds its own parts
by a regular expression. Either is relative to the root, and can lead out of it by `..`.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from builder.build_errors import SourceError, UsageError
from builder.formats import stem_of
from builder.sources.source_list import SourceList

ARROW: Final = " -> "
# The column of sequences with the hash of a source's file of labels: `source_sha256` stays that of the source alone,
# which anybody can check with `sha256sum`.
LABELS_SHA256: Final = "labels_sha256"
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_OF_NAME: Final = {"stem": "[^/]+", "name": "[^/]+", "parent": ".*", "path": ".+"}  # and what each can be


@dataclass(frozen=True, slots=True)
class Pairing:
    """How the file of labels is named after its source.

    Args:
        pattern: A regular expression that is searched in the source's name; None: there is none.
        template: The name of the file of labels, with placeholders.
    """

    pattern: str | None
    template: str

    @classmethod
    def parse(cls, text: str) -> Pairing:
        r"""Read what was given.

        Raises:
            UsageError: It names no file for each source.

        >>> Pairing.parse("labels/{stem}.csv").label_file("a/b.parquet")
        'labels/b.csv'
        >>> Pairing.parse(r"in/(\d+)_.* -> out/{1}.csv").label_file("in/07_x.csv")
        'out/07.csv'
        """
        before, arrow, template = text.rpartition(ARROW)
        one = cls(before.strip() if arrow else None, template.strip())
        one._check(text)
        return one

    def label_file(self, source: str) -> str:
        """Return the name of a source's file of labels, relative to the root.

        Raises:
            SourceError: The regular expression does not match.
        """
        path = PurePosixPath(source)
        values = {"stem": stem_of(source), "name": path.name, "parent": path.parent.as_posix(), "path": source}
        if self.pattern is not None:
            found = re.search(self.pattern, source)
            if found is None:
                raise SourceError(
                    source,
                    f"its name does not match '{self.pattern}' of labels_from (--labels-from); correct one of the two, "
                    "or leave the file out of the sources",
                )
            values |= {str(number): text or "" for number, text in enumerate(found.groups(), 1)}
            values |= {name: text or "" for name, text in found.groupdict().items()}
        return posixpath.normpath(_PLACEHOLDER.sub(lambda place: values[place[1]], self.template))

    def is_label_file(self, name: str, partners: Collection[str] = ()) -> bool:
        """Tell whether a file is named as those of labels are, so that it is no source.

        With a regular expression, one that this matches is a source, unless it is among the `partners` of sources.

        >>> pairing = Pairing.parse("{parent}/{stem}_y.csv")
        >>> pairing.is_label_file("a/1_y.csv"), pairing.is_label_file("1_y.csv"), pairing.is_label_file("a/1.csv")
        (True, True, False)
        """
        if _form(self.template).fullmatch(name) is None:
            return False
        return self.pattern is None or re.search(self.pattern, name) is None or name in partners

    def _check(self, text: str) -> None:
        known: dict[str, None] = dict.fromkeys(_OF_NAME)
        if self.pattern is not None:
            try:
                compiled = re.compile(self.pattern)
            except re.error as error:
                raise UsageError(
                    f"labels_from={text!r:.200}: {self.pattern!r} is no regular expression: {error}"
                ) from None
            known |= dict.fromkeys([*map(str, range(1, compiled.groups + 1)), *compiled.groupindex])
        places = _PLACEHOLDER.findall(self.template)
        if unknown := [place for place in places if place not in known]:
            raise UsageError(
                f"labels_from={text!r:.200}: {{{unknown[0]}}} stands for nothing; there are "
                f"{', '.join(f'{{{name}}}' for name in known)}"
            )
        if not places:
            raise UsageError(
                f"labels_from={text!r:.200} names one file for all sources; name one for each, as 'labels/{{stem}}.csv'"
            )
        if self.template.startswith("/"):
            raise UsageError(
                f"labels_from={text!r:.200} is not relative to the folder of the sources; lead out of that with '..'"
            )


@lru_cache(maxsize=8)
def _form(template: str) -> re.Pattern[str]:
    """Return what the names of files of labels are like."""
    parts = _PLACEHOLDER.split(posixpath.normpath(template))
    form = "".join(_OF_NAME.get(part, ".*") if odd % 2 else re.escape(part) for odd, part in enumerate(parts))
    # A source in the root has the parent ".", of which nothing is seen in the name.
    return re.compile(form.replace(".*/", "(?:.*/)?"), re.DOTALL)


@lru_cache(maxsize=8)
def pairing_of(text: str) -> Pairing:
    """Return what `Pairing.parse` does, once for all sources."""
    return Pairing.parse(text)


def check_below(found: SourceList, label_file: Callable[[str], str | None], store: object, labels_from: str) -> None:
    """Refuse files of labels outside of the root where a store alone names them: it may be a stranger's.

    Raises:
        UsageError: The labels of a source lie there; they have to be given again.
    """
    for name in found.names:
        with contextlib.suppress(SourceError):  # said when it is read
            labels = label_file(name) or ""
            if labels.startswith("/") or labels.split("/")[0] == "..":
                raise UsageError(
                    f"{store}: was built with labels_from={labels_from!r:.200}, by which the labels of {name} are in "
                    f"{labels:.200}, outside of {found.root}; nothing is opened there because a store says so: give it "
                    "again with labels_from (--labels-from)"
                )


def without_label_files(found: SourceList, label_file: Callable[[str], str | None], labels_from: str) -> SourceList:
    """Leave out the files that are named as those of labels are.

    Raises:
        UsageError: Two sources have one file of labels, or all files are such.
    """
    pairing = pairing_of(labels_from)
    pairs: dict[str, str | None] = {}
    for name in found.names:
        with contextlib.suppress(SourceError):  # said when it is read, as whatever else is wrong with one source
            pairs[name] = label_file(name)
    partners = {one for one in pairs.values() if one is not None}
    names = tuple(name for name in found.names if not pairing.is_label_file(name, partners))
    if found.names and not names:
        raise UsageError(
            f"{found.root}: by labels_from={labels_from!r:.200} every file of {len(found.names):,} is one of labels, "
            f"as {found.names[0]}, and none a source; name those of labels otherwise, or lay them elsewhere"
        )
    owners: dict[str, str] = {}
    for name in names:
        labels = pairs.get(name)
        if labels is None:
            continue
        if labels in owners:
            raise UsageError(
                f"{found.root}: labels_from={labels_from!r:.200} pairs both {owners[labels]} and {name} with {labels}; "
                "each source needs a file of its own: tell folders apart with {parent} or {path}"
            )
        owners[labels] = name
    return replace(found, names=names)
