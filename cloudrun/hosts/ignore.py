"""What of a folder stays at home: `.gitignore` as git reads it, and `.cloudrunignore` beside it.

One entry is judged at a time, as git does: a folder that is ignored is not
looked into, so nothing in it comes back by a later `!`. pathspec judges whole
paths instead: a pattern also matches what lies below what it names, and
`data/**` the folder itself, which is wrong for a walk that leaves folders out.
A file that git tracks although a pattern names it is left out all the same:
the patterns are read, the index is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# The later a file stands here, the more it counts within one folder.
FILES = (".gitignore", ".cloudrunignore")
_NEVER = "(?!)"
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e",
    "space": "\\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


@dataclass(frozen=True)
class Pattern:
    """One line: what it matches, whether it ignores or brings back, whether folders only."""

    regex: re.Pattern[str]
    ignores: bool
    folders_only: bool


@dataclass(frozen=True)
class Level:
    """The patterns of one file, and any of them in one look, since most paths match none.

    `file` is the file's name. Paths count from the root of the scan: `prefix` is what
    leads to it from a file above it, `depth` how much to cut off for a file below it.
    """

    patterns: tuple[Pattern, ...]
    any_of_them: re.Pattern[str]
    file: str
    prefix: str = ""
    depth: int = 0

    def says(self, path: str, is_folder: bool) -> bool | None:
        """Whether a path is ignored; None where no pattern names it."""
        path = self.prefix + path[self.depth :]
        if not self.any_of_them.fullmatch(path):
            return None
        for pattern in reversed(self.patterns):
            if (is_folder or not pattern.folders_only) and pattern.regex.fullmatch(path):
                return pattern.ignores
        return None


def ignored_by(path: str, is_folder: bool, levels: Iterable[Level]) -> str:
    """The name of the file by which a path is ignored; empty where it is not.

    `levels`: the patterns that hold there, the deepest first.
    """
    for level in levels:
        verdict = level.says(path, is_folder)
        if verdict is not None:
            return level.file if verdict else ""
    return ""


def levels_above(root: Path) -> list[Level]:
    """The patterns from above a folder that lies in a git repository, the deepest first."""
    root = root.resolve()
    folders = (root, *root.parents)
    top = next((folder for folder in folders if (folder / ".git").exists()), None)
    if top is None:
        return []
    levels: list[Level] = []
    for folder in folders[1 : len(root.parts) - len(top.parts) + 1]:
        levels += levels_in(folder, prefix=_prefix(folder, root))
    exclude = _git_folder(top / ".git") / "info" / "exclude"
    return levels + _read(exclude, ".git/info/exclude", _prefix(top, root), 0)


def levels_in(folder: Path, prefix: str = "", depth: int = 0) -> list[Level]:
    """The patterns that a folder's own files hold, those that count most first."""
    return [
        level for name in reversed(FILES) for level in _read(folder / name, name, prefix, depth)
    ]


def _prefix(folder: Path, root: Path) -> str:
    return "".join(f"{part}/" for part in root.parts[len(folder.parts) :])


def _read(path: Path, name: str, prefix: str, depth: int) -> list[Level]:
    try:
        text = path.read_bytes().removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    except OSError:
        return []
    patterns = tuple(
        pattern for line in text.split("\n") if (pattern := parse(line.removesuffix("\r")))
    )
    either = "|".join(f"(?:{pattern.regex.pattern})" for pattern in patterns)
    return [Level(patterns, re.compile(either, re.DOTALL), name, prefix, depth)] if patterns else []


def parse(line: str) -> Pattern | None:
    """Read a line as gitignore(5) describes it; None for comments and empty lines."""
    if line.startswith("#"):
        return None
    line = re.sub(r"(?<!\\) +$", "", line)
    ignores = not line.startswith("!")
    line = line if ignores else line[1:]
    folders_only = line.endswith("/")
    line = line.removesuffix("/")
    if not line:
        return None
    anywhere = "" if "/" in line else "(?:.*/)?"
    regex = anywhere + _translate(line.removeprefix("/"))
    return Pattern(re.compile(regex, re.DOTALL), ignores, folders_only)


def _translate(glob: str) -> str:
    """A shell pattern as a regular expression for a whole path."""
    out = ""
    at = 0
    while at < len(glob):
        char = glob[at]
        if char == "*":
            piece, at = _stars(glob, at)
        elif char == "?":
            piece, at = "[^/]", at + 1
        elif char == "[":
            piece, at = _bracket(glob, at)
        elif char == "\\":
            piece, at = (re.escape(glob[at + 1]) if at + 1 < len(glob) else _NEVER), at + 2
        else:
            piece, at = re.escape(char), at + 1
        out += piece
    return out


def _stars(glob: str, at: int) -> tuple[str, int]:
    """`*` stays within a name; `**` between slashes goes through folders."""
    end = at
    while end < len(glob) and glob[end] == "*":
        end += 1
    stands_alone = (at == 0 or glob[at - 1] == "/") and (end == len(glob) or glob[end] == "/")
    if end - at < 2 or not stands_alone:
        return "[^/]*", end
    return (".*", end) if end == len(glob) else ("(?:.*/)?", end + 1)


def _bracket(glob: str, at: int) -> tuple[str, int]:
    """`[...]`; one that is not closed matches nothing, as in git."""
    found = re.compile(r"\[(?P<no>[!^]?)(?P<of>\]?(?:\[:\w+:\]|\\.|[^\]\\])*)\]", re.DOTALL).match(
        glob, at
    )
    if not found:
        return _NEVER, len(glob)
    inside = ""
    # A range, a class, an escaped character, a character.
    single = r"(?:\\.|[^\\])"
    for low, high, name, char in re.findall(
        rf"({single})-({single})|\[:(\w+):\]|({single})", found["of"], re.DOTALL
    ):
        if name:
            inside += _CLASSES.get(name, "")
        elif char:
            inside += re.escape(char[-1])
        else:
            # As in git, a range that runs backwards is its first character.
            last = high[-1] if low[-1] <= high[-1] else low[-1]
            inside += f"{re.escape(low[-1])}-{re.escape(last)}"
    if found["no"]:
        return f"[^/{inside}]", found.end()
    return (f"(?!/)[{inside}]" if inside else _NEVER), found.end()


def _git_folder(path: Path) -> Path:
    """The repository itself; `.git` is a file that leads there in worktrees and submodules."""
    try:
        if path.is_dir():
            return path
        folder = path.parent / path.read_text(encoding="utf-8").partition("gitdir:")[2].strip()
        common = folder / "commondir"
        return folder / common.read_text(encoding="utf-8").strip() if common.exists() else folder
    except (OSError, UnicodeError):
        return path
