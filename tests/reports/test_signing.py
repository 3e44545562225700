"""Signatures against OpenSSH's own: what one tool makes, the other takes, and refuses."""

from __future__ import annotations

import base64
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloudrun.errors import BadData, BadSettings
from cloudrun.hosts import userkeys
from cloudrun.hosts.base import NOBODY
from cloudrun.reports import signers, signing, vouching
from cloudrun.reports.folder import Folder
from tests.doubles.reports import report

KINDS = ("ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048")
DATA = report().to_json()


def keygen(*arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ssh-keygen", *map(str, arguments)], input=data, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key of each kind, and the file that allows them: each is called as its kind is."""
    folder = tmp_path_factory.mktemp("keys")
    for kind in KINDS:
        name, _, bits = kind.partition("-")
        more = ("-b", bits) if bits else ()
        keygen("-q", "-t", name, *more, "-N", "", "-C", "", "-f", folder / kind)
    lines = [f"{kind} {(folder / f'{kind}.pub').read_text()}" for kind in KINDS]
    (folder / "allowed").write_text("".join(lines))
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "r.json"
    path.write_bytes(DATA)
    return path


def key(keys: Path, kind: str = "ed25519") -> signing.Key:
    found, _ = userkeys.load(keys / kind, NOBODY)
    assert found is not None
    return found


def add(file: Path, own: signing.Key) -> Path:
    return file.parent / vouching.add(Folder(file.parent), file.name, file.read_bytes(), own)


def check(file: Path, known: list[signers.Signer]) -> list[vouching.Voucher]:
    place = Folder(file.parent)
    beside = vouching.beside(place).get(file.name, [])
    return list(vouching.check(place, file.read_bytes(), beside, known))


def told(file: Path, keys: Path) -> list[vouching.Voucher]:
    return check(file, signers.read(keys / "allowed"))


@pytest.mark.parametrize("kind", KINDS)
def test_ssh_keygen_takes_ours(kind: str, keys: Path, file: Path) -> None:
    made = add(file, key(keys, kind))
    verify = ("-Y", "verify", "-f", keys / "allowed", "-n", signing.NAMESPACE, "-s", made, "-I")
    assert keygen(*verify, kind, data=DATA).returncode == 0
    assert keygen(*verify, kind, data=DATA + b" ").returncode != 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_we_take_ssh_keygens(kind: str, hash_name: str, keys: Path, file: Path) -> None:
    signed = keygen("-Y", "sign", "-q", "-f", keys / kind, "-n", signing.NAMESPACE,
                    "-O", f"hashalg={hash_name}", file)  # fmt: skip
    assert signed.returncode == 0
    (voucher,) = told(file, keys)
    assert (voucher.who, voucher.problem) == (kind, None)
    assert voucher.key.encode() in keygen("-l", "-f", keys / kind).stdout
    file.write_bytes(DATA.replace(b"passed", b"failed"))
    (voucher,) = told(file, keys)
    assert voucher.who is None
    assert "does not fit" in str(voucher.problem)


def test_several_people_sign_and_each_once(keys: Path, file: Path) -> None:
    made = {add(file, key(keys, kind)) for kind in ("ed25519", "rsa-2048", "ed25519")}
    assert len(made) == 2
    assert {voucher.who for voucher in told(file, keys)} == {"ed25519", "rsa-2048"}


def test_a_signature_is_not_overwritten_whatever_it_is(keys: Path, file: Path) -> None:
    made = add(file, key(keys))
    for other in (b"?", signing.sign(b"another report", key(keys))):
        made.write_bytes(other)
        with pytest.raises(BadData, match=made.name):
            add(file, key(keys))
        assert made.read_bytes() == other


def test_another_purpose_is_no_report(keys: Path, file: Path) -> None:
    keygen("-Y", "sign", "-q", "-f", keys / "ed25519", "-n", "git", file)
    (voucher,) = told(file, keys)
    assert "is for 'git'" in str(voucher.problem)


def test_a_key_that_nobody_knows_vouches_for_nothing(keys: Path, file: Path) -> None:
    add(file, key(keys))
    (voucher,) = check(file, [])
    assert (voucher.who, voucher.problem) == (None, None)


def test_a_signature_cannot_be_passed_to_another_key(keys: Path, file: Path) -> None:
    theirs, ours = (signing.read(signing.sign(DATA, key(keys, kind)), "x") for kind in KINDS[:2])
    for forged in (
        theirs._replace(key=ours.key),
        ours._replace(algorithm="ssh-ed25519"),
        ours._replace(value=theirs.value),
    ):
        with pytest.raises(BadData):
            signing.check(DATA, forged, "x")
    rsa = signing.read(signing.sign(DATA, key(keys, "rsa-2048")), "x")
    with pytest.raises(BadData, match="does not fit"):
        signing.check(DATA, rsa._replace(algorithm="ssh-rsa"), "x")


def damaged() -> list[bytes]:
    begin, end = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"

    def armored(blob: bytes) -> bytes:
        return begin + b"\n" + base64.b64encode(blob) + b"\n" + end

    version = (1).to_bytes(4, "big")
    return [
        b"",
        b"\xff\xfe",
        begin,
        begin + end,
        begin + b"\n!!!!\n" + end,
        armored(b"SSHSIG" + (2).to_bytes(4, "big")),
        armored(b"SSHSIG" + version),
        armored(b"SSHSIG" + version + b"\xff\xff\xff\xff" * 9),
        armored(b"SSHSIG" + version + (0).to_bytes(4, "big") * 5),
        armored(b"x" * 20_000),
    ]


@pytest.mark.parametrize("data", damaged())
def test_a_damaged_signature_is_named_and_harmless(data: bytes, keys: Path, file: Path) -> None:
    file.with_name("r.json.sig").write_bytes(data)
    (voucher,) = told(file, keys)
    assert voucher.who is None
    assert "r.json.sig cannot be read" in str(voucher.problem)


def test_every_cut_of_a_signature_is_refused(keys: Path) -> None:
    whole = signing.sign(DATA, key(keys))
    blob = base64.b64decode("".join(whole.decode().splitlines()[1:-1]))
    for length in range(len(blob)):
        cut = base64.b64encode(blob[:length])
        with pytest.raises(BadData):
            signing.read(b"\n".join([whole[:29], cut, whole[-28:]]), "x")


def test_what_is_too_long_goes_on_or_is_of_a_later_version_is_refused(keys: Path) -> None:
    whole = signing.sign(DATA, key(keys))
    blob = base64.b64decode("".join(whole.decode().splitlines()[1:-1]))
    later = blob[:6] + (2).to_bytes(4, "big") + blob[10:]
    for bad in (later, blob + b"x"):
        with pytest.raises(BadData, match="another version|more in it"):
            signing.read(b"\n".join([whole[:29], base64.b64encode(bad), whole[-28:]]), "x")
    with pytest.raises(BadData, match="too large"):
        signing.read(whole + b"\n" * signing.MOST_BYTES, "x")


def test_an_unknown_kind_of_key_is_said_to_be_one(keys: Path) -> None:
    made = signing.read(signing.sign(DATA, key(keys)), "x")
    strange = (5).to_bytes(4, "big") + b"magic" + b"key"
    with pytest.raises(BadData, match="the type 'magic'"):
        signing.check(DATA, made._replace(key=strange), "x")


def allowed(tmp_path: Path, keys: Path, line: str) -> list[signers.Signer]:
    public = (keys / "ed25519.pub").read_text().strip()
    path = tmp_path / "allowed"
    path.write_text(f"# people\n\n{line.replace('KEY', public)} a comment\n")
    return signers.read(path)


NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "who"),
    [
        ("alice@example.org KEY", "alice@example.org"),
        ('"alice b" KEY', "alice b"),
        ("a,b KEY", "a,b"),
        ('a namespaces="cloudrun-report" KEY', "a"),
        ('a namespaces="git,cloudrun-*" KEY', "a"),
        ('a NAMESPACES="*,!cloudrun-report" KEY', None),
        ('a namespaces="git" KEY', None),
        ('a valid-after="20261124" KEY', "a"),
        ('a valid-after="20261124115959Z",valid-before="202611241201Z" KEY', "a"),
        ('a valid-after="20261125Z" KEY', None),
        ('a valid-before="20261124115959Z" KEY', None),
        ("a cert-authority KEY", None),
        ('a cert-authority,namespaces="cloudrun-report" KEY', None),
    ],
)
def test_whom_a_line_allows(line: str, who: str | None, tmp_path: Path, keys: Path) -> None:
    own = key(keys).asbytes()
    found = allowed(tmp_path, keys, line)
    assert signers.who(found, own, NOW) == who
    assert signers.who(found, key(keys, "rsa-2048").asbytes(), NOW) is None


@pytest.mark.parametrize(
    "line",
    ["alice", "alice ssh-rsa AAAA", 'a no-such="x" KEY', 'a valid-after="soon" KEY',
     'a valid-after="20269999" KEY', "KEY", 'a namespaces="git KEY'],
)  # fmt: skip
def test_a_line_that_makes_no_sense_is_an_error(line: str, tmp_path: Path, keys: Path) -> None:
    with pytest.raises(BadSettings, match="Line 3 of"):
        allowed(tmp_path, keys, line)


def test_a_moment_without_a_z_is_local(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "UTC-5")
    time.tzset()
    try:
        found = allowed(tmp_path, keys, 'a valid-after="202611241500" KEY')
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found[0].after == NOW - timedelta(hours=2)


def test_the_same_times_as_ssh_keygen(tmp_path: Path, keys: Path, file: Path) -> None:
    made = add(file, key(keys))
    public = (keys / "ed25519.pub").read_text().strip()
    path = tmp_path / "allowed"
    for days, is_good in ((1, False), (-1, True)):
        day = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y%m%d")
        path.write_text(f'a valid-after="{day}" {public}\n')
        theirs = keygen("-Y", "verify", "-f", path, "-n", signing.NAMESPACE, "-s", made, "-I", "a",
                        data=DATA)  # fmt: skip
        assert (theirs.returncode == 0) == is_good
        (voucher,) = check(file, signers.read(path))
        assert (voucher.who == "a") == is_good
