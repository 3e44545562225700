"""Archives: what is written GNU tar reads, and what is read does no harm."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from cloudrun.errors import AccessDenied, BadData, BadSettings, Unavailable
from cloudrun.hosts.archive import Extracted, Limits, Writer, Written, extract, write_entries
from cloudrun.hosts.manifest import scan

LIMITS = Limits(10_000_000, 100)


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def archive(
    *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT, **more: object
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, **more) as tar:  # type: ignore[call-overload]
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def unpack(data: bytes, folder: Path, piece: int = 1000, **more: object) -> Extracted:
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    return extract(pieces, folder, LIMITS, **more)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


LINK = {"type": tarfile.SYMTYPE}
FOLDER = {"type": tarfile.DIRTYPE}
SPARSE = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (archive(member("/var/cloudrun-evil", b"x")), "leads out"),
        (archive(member("../evil", b"x")), "leads out"),
        (archive(member("a/../../evil", b"x")), "leads out"),
        (archive(member("a/..", **FOLDER)), "leads out"),
        (archive(member("x" * 200 + "/../../../evil", b"x")), "leads out"),
        (archive(member("é/../../evil", b"x"), form=tarfile.PAX_FORMAT), "leads out"),
        (archive(member("a", type=tarfile.LNKTYPE, linkname="/etc/passwd")), "hard link"),
        (archive(member("a", type=tarfile.CHRTYPE, devmajor=1, devminor=3)), "device"),
        (archive(member("a", type=tarfile.BLKTYPE)), "device"),
        (archive(member("a", type=tarfile.FIFOTYPE)), "pipe"),
        (archive(member("a", type=b"Z")), "worse"),
        (archive(member("a", type=tarfile.GNUTYPE_SPARSE)), "worse"),
        (archive(member("a", pax_headers=SPARSE), form=tarfile.PAX_FORMAT), "holes"),
        (archive(member("a", b"1"), member("a", b"2")), "twice"),
        (archive(member("a", b"1"), member("./a/", **FOLDER)), "twice|none"),
        (archive(member("a", **FOLDER), member("a", b"1")), "twice"),
        (archive(member("a", b"1"), member("a/b", b"2")), "none"),
        (archive(member("in", **LINK, linkname="sub"), member("in/x", b"2")), "link"),
        (archive(member(".", b"1")), "without a name"),
        (archive(member(".cloudrun-part-x/a", b"1")), "ours"),
        (archive(member("n" * 40_000, b"1")), "absurd"),
        (archive(*[member(str(number)) for number in range(101)]), "more than 100 members"),
        (archive(member("big", bytes(10_000_001))), "more than 10000000 bytes"),
        (archive(*[member(str(n), bytes(3_000_000)) for n in range(4)]), "more than 10000000"),
        (archive(member("a", b"x" * 5000))[:3000], "cut off"),
        (archive(member("a", b"x" * 5000))[:6000], "cut off"),
        (archive(member("a", b"x" * 5000))[:100], "cut off"),
        (b"", "cut off"),
        (b"\xff" * 512, "damaged"),
        (os.urandom(5000), "damaged"),
        (archive(member("a"))[:140] + b"9" + archive(member("a"))[141:], "damaged"),
    ],
)
def test_a_hostile_archive_does_no_harm(tmp_path: Path, data: bytes, words: str) -> None:
    folder = tmp_path / "here" / "below"
    with pytest.raises(BadData, match=words) as caught:
        unpack(data, folder)
    assert "\n" not in str(caught.value)
    outside = [name for name in names(tmp_path) if not name.startswith("here/below/")]
    assert outside == ["here", "here/below", "work"]
    assert not [name for name in names(folder) if name.startswith(".cloudrun")]
    assert not Path("/var/cloudrun-evil").exists()


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "..", "../x", "sub/../../x", "l/../..", "C:\\Windows", "\\x", "a/../b"],
)
def test_a_link_that_leads_out_is_left_out(tmp_path: Path, target: str) -> None:
    done = unpack(
        archive(member("l", **LINK, linkname=target), member("l/x", b"1"), member("b", b"2")),
        tmp_path / "x",
    )
    assert names(tmp_path / "x") == ["b", "l", "l/x"]
    assert (tmp_path / "x" / "l").is_dir()
    assert not (tmp_path / "x" / "l").is_symlink()
    assert "leads out of its folder" in done.notes[0]


def test_a_link_that_stays_in_is_kept_even_when_it_leads_up(tmp_path: Path) -> None:
    unpack(archive(member("a/b/l", **LINK, linkname="../../c/./d")), tmp_path)
    assert (tmp_path / "a" / "b" / "l").readlink() == Path("../../c/d")


def test_nothing_is_written_through_a_link_that_is_here(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (outside / "x").write_text("precious")
    (folder / "d").symlink_to(outside)
    (folder / "f").symlink_to(outside / "x")
    with pytest.raises(BadData, match="link"):
        unpack(archive(member("d/x", b"evil")), folder)
    unpack(archive(member("f", b"new")), folder)
    assert (outside / "x").read_text() == "precious"
    assert not (folder / "f").is_symlink()
    assert (folder / "f").read_bytes() == b"new"


def test_a_folder_in_the_way_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(BadSettings, match="is a folder here"):
        unpack(archive(member("a", b"x")), tmp_path)


def test_modes_lose_what_is_dangerous(tmp_path: Path) -> None:
    unpack(archive(member("a", b"x", mode=0o6777), member("b", b"x", mode=0o000)), tmp_path)
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "b").stat().st_mode & 0o7777 == 0o600


def test_a_file_gets_its_name_when_it_is_complete(tmp_path: Path) -> None:
    data = archive(member("a", b"x" * 5000))
    seen: list[list[str]] = []

    def pieces() -> list[bytes]:
        for at in range(0, len(data), 512):
            seen.append([path.name for path in tmp_path.iterdir() if path.is_file()])
            yield data[at : at + 512]  # type: ignore[misc]

    extract(pieces(), tmp_path, LIMITS)
    assert ["a"] in seen
    assert seen[9] == []


def test_a_bomb_costs_no_memory_and_ends_at_the_limit(tmp_path: Path) -> None:
    bomb = gzip.compress(archive(member("a", bytes(9_000_000)), member("b", bytes(9_000_000))), 9)
    tracemalloc.start()
    with pytest.raises(BadData, match="more than 10000000"):
        extract([bomb], tmp_path, LIMITS, packed=True)
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


def test_damaged_and_cut_gzip_is_told(tmp_path: Path) -> None:
    good = gzip.compress(archive(member("a", os.urandom(50_000))))
    assert extract([good], tmp_path, LIMITS, packed=True).files == 1
    with pytest.raises(BadData, match="cut off"):
        extract([good[:-20_000]], tmp_path, LIMITS, packed=True)
    with pytest.raises(BadData, match="damaged"):
        extract([b"no gzip at all"], tmp_path, LIMITS, packed=True)


def test_a_full_disk_is_told_before_it_is_full(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a")
    info.size = 2**60
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(Unavailable, match="disk of .* is full"):
        extract([header], tmp_path, Limits(2**61, 10))


def test_names_that_windows_cannot_have_are_written_another_way(tmp_path: Path) -> None:
    members = [member(name, b"x") for name in ("a:b", "aux.txt", "dot.", "w\\x", "nul", "good")]
    unpack(archive(*members), tmp_path / "x", windows=True)
    assert names(tmp_path / "x") == ["%61ux.txt", "%6Eul", "a%3Ab", "dot%2E", "good", "w%5Cx"]


def test_names_that_are_one_here_are_told(tmp_path: Path) -> None:
    data = archive(member("Model", b"1"), member("model", b"2"), member("x", b"3"))
    done = unpack(data, tmp_path / "x", folds_case=True)
    assert names(tmp_path / "x") == ["Model", "x"]
    assert "one name on this computer" in done.notes[0]
    assert unpack(data, tmp_path / "y", folds_case=False).files == 3


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("piece", [1, 511, 512, 513, 10**6])
def test_every_format_is_read_however_it_comes(tmp_path: Path, form: int, piece: int) -> None:
    long = "d" * 90 + "/" + "f" * 90
    data = archive(member(long, b"x" * 700), member("tail", b"y"), form=form)
    assert unpack(data, tmp_path, piece).files == 2
    assert (tmp_path / long).read_bytes() == b"x" * 700


def written(
    root: Path, act: Callable[[int], object] = lambda _count: None
) -> tuple[bytes, Written]:
    out = bytearray()
    writer = Writer(lambda data: out.extend(data))
    entries = scan(root).entries.values()
    done = write_entries(writer, root, entries, "p/", act)
    writer.end()
    assert writer.size == len(out)
    return bytes(out), done


def test_gnu_tar_reads_what_is_written(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "big").write_bytes(os.urandom(700_001))
    (root / os.fsdecode(b"bad\xff\n")).write_text("x")
    (root / ("n" * 250)).symlink_to("t" * 250)
    (root / "old").write_text("x")
    os.utime(root / "old", (-10, -10))
    data, _ = written(root)
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "-xpf", "-", "-C", str(out)], input=data, check=True)
    assert [n.removeprefix("p/") for n in names(out) if n != "p"] == names(root)
    assert (out / "p" / "d" / "big").read_bytes() == (root / "d" / "big").read_bytes()
    assert os.readlink(out / "p" / ("n" * 250)) == "t" * 250
    assert (out / "p" / "old").stat().st_mtime == 0


@pytest.mark.parametrize("change", ["shrinks", "grows", "rewritten"])
def test_an_archive_stays_whole_when_a_file_does_not(tmp_path: Path, change: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_bytes(b"a" * 2_000_000)
    (root / "b").write_text("b")

    def act(_count: int) -> None:
        if change == "shrinks":
            os.truncate(root / "a", 1_000_000)
        elif change == "grows":
            with (root / "a").open("ab") as file:
                file.write(b"more")
        else:
            (root / "a").write_bytes(b"c" * 2_000_000)

    data, done = written(root, act)
    assert done.entries["a"].digest == ""
    assert len(done.entries["b"].digest) == 64
    assert done.notes == ["a changed while it was sent: send it again."]
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [info.size for info in tar] == [2_000_000, 1]


@pytest.mark.parametrize("change", ["vanishes", "link", "pipe"])
def test_a_file_that_is_none_any_more_is_left_out(tmp_path: Path, change: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a").write_text("a")
    (root / "b").write_text("b")

    def act(_count: int) -> None:
        (root / "b").unlink(missing_ok=True)
        if change == "link":
            (root / "b").symlink_to("/etc/passwd")
        if change == "pipe":
            os.mkfifo(root / "b")

    data, done = written(root, act)
    assert list(done.entries) == ["a"]
    assert len(done.notes) == 1
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["p/a"]


def test_memory_stays_flat_both_ways(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with (root / "big").open("wb") as file:
        file.truncate(2**26)
    entries = list(scan(root).entries.values())
    size = [0]

    def count(data: bytes) -> None:
        size[0] += len(data)

    tracemalloc.start()
    writer = Writer(count)
    write_entries(writer, root, entries)
    writer.end()
    assert size[0] > 2**26
    info = tarfile.TarInfo("big")
    info.size = 2**26
    header = info.tobuf(tarfile.GNU_FORMAT)
    chunk = bytes(2**16)
    extract([header, *[chunk] * 2**10, bytes(1024)], tmp_path / "out", Limits(2**30, 9))
    assert tracemalloc.get_traced_memory()[1] < 2**21
    tracemalloc.stop()


def test_a_file_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "a").write_text("x")
    entries = list(scan(tmp_path / "work").entries.values())

    # Root may read everything.
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(AccessDenied, match="a cannot be read. Permission denied.*cloudrunignore"):
        write_entries(Writer(len), tmp_path / "work", entries)
