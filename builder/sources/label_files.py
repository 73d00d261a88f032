r"""Label files of sources: `--labels-from`.

`labels/{stem}.csv` names a label file by parts of the source's name, `forcing/(\d+)_.* -> flow/{1}.csv` by the groups
of a regular expression. Both are relative to the root, and may contain `..`.
"""

import contextlib
import posixpath
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Final

from builder.build_errors import SourceError, UsageError
from builder.formats import split_name
from builder.sources.patterns import check_expression, match_name
from builder.sources.source_list import SourceList

ARROW: Final = " -> "
# The column of sequences with the hash of the label file. (`source_sha256` is the hash of the source alone, so that
# users can check it with `sha256sum`.)
LABELS_SHA256: Final = "labels_sha256"
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_PARTS: Final = {"stem": "[^/]+", "name": "[^/]+", "parent": ".*", "path": ".+"}  # regular expressions for parts


@dataclass(frozen=True, slots=True)
class LabelFilePattern:
    """The rule that gives the name of a source's label file."""

    pattern: str | None  # a regular expression that is searched in the source's name, for groups in the template
    template: str  # the name of the label file, with placeholders

    @classmethod
    @lru_cache(maxsize=8)
    def parse(cls, text: str) -> "LabelFilePattern":
        r"""Parse a template, or a regular expression and a template, once for all sources.

        >>> LabelFilePattern.parse("labels/{stem}.csv").label_file("a/b.parquet")
        'labels/b.csv'
        >>> LabelFilePattern.parse(r"in/(\d+)_.* -> out/{1}.csv").label_file("in/07_x.csv")
        'out/07.csv'
        """
        before, arrow, template = text.rpartition(ARROW)
        pattern = cls(before.strip() if arrow else None, template.strip())
        pattern._check(text)
        return pattern

    def label_file(self, source: str) -> str:
        """Return the name of a source's label file, relative to the root; SourceError if the pattern does not match."""
        path = PurePosixPath(source)
        values = {"stem": split_name(source)[0], "name": path.name, "parent": path.parent.as_posix(), "path": source}
        if self.pattern is not None:
            match = match_name(self.pattern, source, "labels_from")
            values |= {str(number): text for number, text in enumerate(match.groups(""), 1)} | match.groupdict("")
        return posixpath.normpath(_PLACEHOLDER.sub(lambda place: values[place[1]], self.template))

    def is_label_file(self, name: str, partners: Collection[str] = ()) -> bool:
        """Return whether a file has the name of a label file, so that it is not a source.

        A file that the regular expression matches is a source, unless it is the label file of one (in `partners`).

        >>> pattern = LabelFilePattern.parse("{parent}/{stem}_y.csv")
        >>> pattern.is_label_file("a/1_y.csv"), pattern.is_label_file("1_y.csv"), pattern.is_label_file("a/1.csv")
        (True, True, False)
        """
        if _label_file_names(self.template).fullmatch(name) is None:
            return False
        return self.pattern is None or re.search(self.pattern, name) is None or name in partners

    def _check(self, text: str) -> None:
        given, known = f"labels_from={text!r:.200}", dict.fromkeys(_PARTS)
        if self.pattern is not None:
            compiled = check_expression(self.pattern, "labels_from")
            known |= dict.fromkeys([*map(str, range(1, compiled.groups + 1)), *compiled.groupindex])
        places = _PLACEHOLDER.findall(self.template)
        unknown = [place for place in places if place not in known]
        if unknown:
            there = ", ".join(f"{{{name}}}" for name in known)
            raise UsageError(f"{given}: {{{unknown[0]}}} is not a placeholder; there are {there}")
        if not places:
            raise UsageError(f"{given} names one file for all sources; name one for each, as 'labels/{{stem}}.csv'")
        if self.template.startswith("/"):
            raise UsageError(f"{given} is not relative to the folder of the sources; use '..' for its parent")


@lru_cache(maxsize=8)
def _label_file_names(template: str) -> re.Pattern[str]:
    """Return a regular expression for the names of label files."""
    texts = _PLACEHOLDER.split(posixpath.normpath(template))  # every second one is the name of a placeholder
    names = "".join(_PARTS.get(text, ".*") if number % 2 else re.escape(text) for number, text in enumerate(texts))
    # A source in the root has the parent ".", which is not part of the normalized name.
    return re.compile(names.replace(".*/", "(?:.*/)?"), re.DOTALL)


def check_below(listing: SourceList, label_file: Callable[[str], str | None], store: object, labels_from: str) -> None:
    """Refuse label files outside the root if only the store names them, since it may come from a stranger."""
    for name in listing.names:
        with contextlib.suppress(SourceError):  # reading the source reports it
            labels = label_file(name) or ""
            if labels.startswith("/") or labels.split("/")[0] == "..":
                raise UsageError(
                    f"{store}: was built with labels_from={labels_from!r:.200}, by which the labels of {name} are in "
                    f"{labels:.200}, outside {listing.folder}; no file there is opened only because a store names it: "
                    "repeat the option labels_from (--labels-from)"
                )


def without_label_files(listing: SourceList, label_file: Callable[[str], str | None], labels_from: str) -> SourceList:
    """Remove label files from the sources, and list those outside of the folder.

    If two sources share a label file, or there are no other files, a UsageError is raised.
    """
    pattern = LabelFilePattern.parse(labels_from)
    pairs: dict[str, str | None] = {}
    for name in listing.names:
        with contextlib.suppress(SourceError):  # reading the source reports it
            pairs[name] = label_file(name)
    partners = {one for one in pairs.values() if one is not None}
    names = tuple(name for name in listing.names if not pattern.is_label_file(name, partners))
    if listing.names and not names:
        raise UsageError(
            f"{listing.folder}: by labels_from={labels_from!r:.200} every file ({len(listing.names):,} in all) is a "
            f"label file, such as {listing.names[0]}, and none is a source; rename the label files, or move them"
        )
    owners: dict[str, str] = {}
    for name in names:
        labels = pairs.get(name)
        if labels is not None and owners.setdefault(labels, name) != name:
            raise UsageError(
                f"{listing.folder}: labels_from={labels_from!r:.200} pairs both {owners[labels]} and {name} with "
                f"{labels}; each source needs its own file: distinguish folders with {{parent}} or {{path}}"
            )
    return replace(listing, names=names, folder=listing.folder.with_label_files(owners))
