"""What a folder holds: the ignore files as git reads them, digests, and the difference."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cloudrun.errors import AccessDenied, BadData, BadSettings
from cloudrun.hosts.manifest import (
    Entry,
    Ignored,
    Kind,
    decode,
    difference,
    digest_of,
    encode,
    identity,
    read_cache,
    scan,
    write_cache,
)

FILES = """
a.py a.log b.txt keep.log data/x.bin data/keep data/sub/y.bin src/a.log src/data/z src/b.py
build/out src/build/out foo/bar/baz foo/x/y/baz foo/baz docs/a.md docs/deep/b.md docs/deep/c/d
#hash !bang trail\\ x[1] x1 x* xa xb x- x] UPPER.TXT upper.txt café.txt .hidden .env/x
a/b/c/d/e.log logs/1 logs/2/3 tmp~ #a# debug0.log debug1.log debuga.log debug01.log
"""

TABLE = [
    {".gitignore": "*.log\n!keep.log\n"},
    {".gitignore": "data/\n"},
    {".gitignore": "/data\n"},
    {".gitignore": "data/*\n!data/keep\n"},
    {".gitignore": "data/**\n!data/keep\n"},
    {".gitignore": "data/\n!data/keep\n"},
    {".gitignore": "**/build\n"},
    {".gitignore": "foo/**/baz\n"},
    {".gitignore": "foo/**\n!foo/x\n"},
    {".gitignore": "**/deep/**\n"},
    {".gitignore": "/*\n!/src\n!/docs/\n/src/*\n!/src/data\n"},
    {".gitignore": "*\n!*/\n!*.py\n"},
    {".gitignore": "*.log\n", "src/.gitignore": "!a.log\n"},
    {".gitignore": "!a.log\n", ".git/info/exclude": "*.log\n"},
    {".git/info/exclude": "/docs/deep\nsrc\n", "src/.gitignore": "!*\n"},
    {"src/.gitignore": "/a.log\ndata\n", "foo/.gitignore": "bar/\nx/y\n"},
    {".gitignore": "\\#hash\n\\!bang\n# a comment\n\n   \n"},
    {".gitignore": "x[1]\nx\\*\n"},
    {".gitignore": "x[!1a-b]\n"},
    {".gitignore": "x[]-]\nx[^\\]]\n"},
    {".gitignore": "x[[:digit:]]\n[[:upper:]]*.TXT\n"},
    {".gitignore": "x[\nx[b-a]\n"},
    {".gitignore": "debug?.log\ndebug[0-9].log\n"},
    {".gitignore": "trail\\\\\ntrail\\ \n"},
    {".gitignore": "a.py   \nb.txt\\ \n"},
    {".gitignore": "a.py\r\ndata/\r\n"},
    {".gitignore": "\ufeffa.py\n"},
    {".gitignore": "café.txt\n"},
    {".gitignore": ".*\n!.gitignore\n"},
    {".gitignore": "a/**/e.log\n"},
    {".gitignore": "a**b\nfoo**\n**.md\n***/y.bin\n"},
    {".gitignore": "/\n//\n!\n**\n!**/\n!*.md\n"},
    {".gitignore": "logs/*/\nlogs//1\n"},
    {".gitignore": "/**/out\n"},
    {".gitignore": "src/data/\nsrc/build/out/\n"},
    {".gitignore": "foo/*/baz\nfoo/?ar/baz\n"},
    {".gitignore": "\\a.py\nb.txt\\\n"},
]


def lay_out(root: Path, more: dict[str, str]) -> None:
    for name in FILES.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    for name, text in more.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode())


def git(root: Path, *arguments: str) -> bytes:
    settings = ["-c", "core.excludesFile=/dev/null", "-c", "user.name=x", "-c", "user.email=x@x"]
    done = subprocess.run(
        ["git", "-C", str(root), *settings, *arguments], check=True, capture_output=True
    )
    return done.stdout


def by_git(root: Path) -> set[str]:
    """The files that git does not ignore."""
    listed = git(root, "ls-files", "-oz", "--exclude-standard")
    return {os.fsdecode(name) for name in listed.split(b"\0") if name}


def by_us(root: Path, **more: object) -> set[str]:
    entries = scan(root, **more).entries  # type: ignore[arg-type]
    return {path for path, entry in entries.items() if entry.kind is not Kind.FOLDER}


@pytest.mark.parametrize("files", TABLE, ids=lambda files: repr(files)[:50])
def test_ignore_files_mean_what_git_says(tmp_path: Path, files: dict[str, str]) -> None:
    root = tmp_path / "root"
    lay_out(root, files)
    assert by_us(root) == by_git(root)


def test_ignore_files_made_of_anything_mean_what_git_says(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lay_out(root, {})
    pieces = ["*", "**", "/", "a", "b", "x", "src", "data", "foo", ".log", "?", "[a-b]", "!", "\\"]
    dice = random.Random(3)
    for _ in range(40):
        lines = ["".join(dice.choices(pieces, k=dice.randint(1, 5))) for _ in range(4)]
        (root / ".gitignore").write_text("\n".join(lines))
        (root / "src" / ".gitignore").write_text("\n".join(lines[::-1]))
        assert by_us(root) == by_git(root), lines


def test_a_folder_in_a_repository_obeys_the_repositorys_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lay_out(root, {".gitignore": "/src/data\n*.log\n", ".git/info/exclude": "src/b.py\n/a.py\n"})
    assert by_us(root / "src") == {"build/out"}
    git(root, "commit", "-q", "--allow-empty", "-m", "x")
    tree = tmp_path / "tree"
    git(root, "worktree", "add", "-q", str(tree))
    (tree / "a.py").write_text("x")
    (tree / "b.py").write_text("x")
    assert by_us(tree) == by_git(tree) == {"b.py"}


def test_cloudrunignore_counts_more_than_gitignore(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lay_out(root, {".gitignore": "*.log\ndata/\n", ".cloudrunignore": "!data/\n*.md\n"})
    found = by_us(root)
    assert "data/x.bin" in found
    assert not [path for path in found if path.endswith((".md", ".log"))]


def test_what_is_ignored_is_counted_a_folder_as_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    lay_out(root, {".gitignore": "*.log\n!keep.log\ndata/\n", ".git/info/exclude": "*.txt\n"})
    ignored = scan(root).ignored
    listed = git(root, "status", "--porcelain", "-z", "-uall", "--ignored=matching").split(b"\0")
    paths = [line[3:] for line in listed if line.startswith(b"!! ")]
    folders = sum(path.endswith(b"/") for path in paths)
    by = {".gitignore", ".git/info/exclude"}
    assert ignored == Ignored(len(paths) - folders, folders, by)
    assert (len(paths), folders) > (5, 1)
    assert scan(root / "src", leave_out=["data"]).ignored.folders == 0


def test_what_is_never_sent(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("env/pyvenv.cfg", "env/bin/python", "pkg/__pycache__/a.pyc", "sub/.git/config"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    for name in ("results/1", "sub/results/1", "sub/skip/x", "pkg/a.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    assert by_us(root, leave_out=["results", "sub/skip/"]) == {"pkg/a.py", "sub/results/1"}


def test_links_and_oddities_are_noted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "in").symlink_to("sub/x")
    (root / "sub" / "up").symlink_to("../in")
    (root / "out").symlink_to("../other")
    (root / "far").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "sock\n"))
        found = scan(root)
    assert {path for path, entry in found.entries.items() if entry.kind is Kind.LINK} == {
        "in",
        "sub/up",
        "out",
        "far",
    }
    assert found.entries["far"].target == "/etc"
    assert [note.partition(" ")[0] for note in found.notes] == ["far", "out", "pipe", "sock\\n"]
    assert "far/passwd" not in found.entries


def test_what_cannot_be_read_or_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadSettings, match="no folder"):
        scan(tmp_path / "none")

    # Root may read everything.
    def refuse(_path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(AccessDenied, match="cannot be read. Permission denied."):
        scan(tmp_path)


def test_encoding_keeps_everything(tmp_path: Path) -> None:
    entries = [
        Entry("a b\nc", Kind.FILE, 0o644, 5, "ab" * 32),
        Entry(os.fsdecode(b"\xff"), Kind.FILE, 0o755, 2**40, ""),
        Entry("näme", Kind.FOLDER, 0o755),
        Entry("-l", Kind.LINK, target="t\n x"),
    ]
    manifest = {entry.path: entry for entry in entries}
    encoded = encode(manifest)
    assert decode(encoded) == manifest
    assert encode(dict(reversed(manifest.items()))) == encoded
    assert len(identity(encoded)) == 64
    assert decode(encode({})) == {}
    for damaged in (encoded[:-1], encoded.replace(b"/v1", b"/v2"), b"", encoded + b"x"):
        with pytest.raises(BadData, match="damaged"):
            decode(damaged)


def test_the_difference(tmp_path: Path) -> None:
    (tmp_path / "same").write_text("12345")
    (tmp_path / "touched").write_text("12345")
    (tmp_path / "edited").write_text("54321")
    (tmp_path / "mode").write_text("1")
    (tmp_path / "new").write_text("1")
    (tmp_path / "lost").write_text("1")
    here = scan(tmp_path, leave_out=["work", "home"]).entries
    there = {
        path: Entry(path, Kind.FILE, 0o644, entry.size, digest_of(tmp_path, path))
        for path, entry in here.items()
        if path != "new"
    }
    there["edited"] = Entry("edited", Kind.FILE, 0o644, 5, there["same"].digest)
    there["gone"] = Entry("gone", Kind.FILE)
    there["mode"] = Entry("mode", Kind.FILE, 0o755, 1, there["mode"].digest)
    todo = difference(tmp_path, here, there, {"lost"})
    assert sorted(entry.path for entry in todo.send) == ["edited", "lost", "new"]
    assert [entry.path for entry in todo.chmod] == ["mode"]
    assert [entry.path for entry in todo.remove] == ["gone"]
    assert here["same"].digest == there["same"].digest


def hashed(root: Path, cache: Path, began: int) -> None:
    found = scan(root)
    for path, entry in found.entries.items():
        found.entries[path] = Entry(path, entry.kind, entry.mode, entry.size, digest_of(root, path))
    write_cache(cache, found.entries, found.stamps, began)


def test_the_cache_knows_a_file_until_it_changes(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "sub" / "cache"
    root.mkdir()
    (root / "a").write_text("12345")
    later = time.time_ns() + 10 * 10**9
    hashed(root, cache, later)
    assert scan(root, cache=read_cache(cache)).entries["a"].digest == digest_of(root, "a")
    status = (root / "a").stat()
    (root / "a").write_text("54321")
    # As long and as old as it was: its ctime tells.
    os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert scan(root, cache=read_cache(cache)).entries["a"].digest == ""


def test_a_file_that_has_just_changed_is_not_in_the_cache(tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    root.mkdir()
    (root / "a").write_text("12345")
    hashed(root, cache, time.time_ns())
    assert read_cache(cache) == {}
    cache.write_bytes(b"damaged")
    assert read_cache(cache) == {}
    assert read_cache(tmp_path / "none") == {}
