"""known_hosts as OpenSSH's own tools write it: every file here comes from ssh-keygen."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from cloudrun.hosts.knownhosts import Verdict, entry, fingerprint, judge, kinds_known


def make_key(path: Path, kind: str = "ed25519") -> tuple[str, bytes]:
    """Make a key pair; returns the public key's type and blob."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    name, blob, *_ = path.with_suffix(".pub").read_text().split()
    return name, base64.b64decode(blob)


def certify(folder: Path, *options: str) -> tuple[str, bytes]:
    """Let the authority in `folder` sign the key in `folder`; returns the certificate."""
    command = ["ssh-keygen", "-q", "-s", str(folder / "ca"), "-I", "test", *options]
    subprocess.run([*command, str(folder / "key.pub")], check=True)
    name, blob, *_ = (folder / "key-cert.pub").read_text().split()
    return name, base64.b64decode(blob)


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def verdict(known: Path, key: tuple[str, bytes], *names: str) -> Verdict:
    return judge([known], names or ["box"], key[1])


def test_a_known_an_unknown_and_a_changed_key(tmp_path: Path, known: Path) -> None:
    first, second = make_key(tmp_path / "a"), make_key(tmp_path / "b")
    rsa = make_key(tmp_path / "c", "rsa")
    assert verdict(known, first) is Verdict.UNKNOWN
    known.write_text(entry("box", first[1]))
    assert verdict(known, first) is Verdict.KNOWN
    assert verdict(known, second) is Verdict.CHANGED
    assert verdict(known, rsa) is Verdict.UNKNOWN
    assert verdict(known, first, "other") is Verdict.UNKNOWN
    assert verdict(known, first, "[box]:2222") is Verdict.UNKNOWN
    assert kinds_known([known], ["box"]) == ["ssh-ed25519"]


def test_without_its_port_a_name_makes_known_and_nothing_else(tmp_path: Path, known: Path) -> None:
    first, second = make_key(tmp_path / "a"), make_key(tmp_path / "b")
    known.write_text(entry("box", first[1]))
    names = ("[box]:2222", "box")
    assert verdict(known, first, *names) is Verdict.KNOWN
    assert verdict(known, second, *names) is Verdict.UNKNOWN
    assert kinds_known([known], names) == ["ssh-ed25519"]
    known.write_text(known.read_text() + entry("[box]:2222", second[1]))
    assert verdict(known, first, *names) is Verdict.CHANGED


def test_an_rsa_key_that_has_changed(tmp_path: Path, known: Path) -> None:
    first, second = make_key(tmp_path / "a", "rsa"), make_key(tmp_path / "b", "rsa")
    known.write_text(entry("box", first[1]))
    assert known.read_text().split()[1] == "ssh-rsa"
    assert verdict(known, second) is Verdict.CHANGED


def test_hashed_names_as_ssh_keygen_hashes_them(tmp_path: Path, known: Path) -> None:
    key = make_key(tmp_path / "a")
    known.write_text(entry("box", key[1]) + entry("[box]:2222", key[1]))
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
    assert "box" not in known.read_text()
    assert verdict(known, key) is Verdict.KNOWN
    assert verdict(known, key, "[box]:2222") is Verdict.KNOWN
    assert verdict(known, key, "other") is Verdict.UNKNOWN


def test_patterns_ports_and_case(tmp_path: Path, known: Path) -> None:
    kind, blob = make_key(tmp_path / "a")
    key = base64.b64encode(blob).decode()
    known.write_text(f"*.lab,!evil.lab,[gate]:22? {kind} {key} a comment\n# box {kind} {key}\n")
    assert verdict(known, (kind, blob), "GPU.lab") is Verdict.KNOWN
    assert verdict(known, (kind, blob), "evil.lab") is Verdict.UNKNOWN
    assert verdict(known, (kind, blob), "[gate]:222") is Verdict.KNOWN
    assert verdict(known, (kind, blob)) is Verdict.UNKNOWN


def test_a_revoked_key_is_refused_although_it_is_known(tmp_path: Path, known: Path) -> None:
    key = make_key(tmp_path / "a")
    known.write_text(entry("box", key[1]) + "@revoked " + entry("*", key[1]))
    assert verdict(known, key) is Verdict.REVOKED


def test_damaged_lines_and_missing_files_know_nothing(tmp_path: Path, known: Path) -> None:
    key = make_key(tmp_path / "a")
    known.write_text("box\nbox ssh-ed25519 !!!\n|1|x box y\n@revoked\n" + entry("box", key[1]))
    assert judge([tmp_path / "missing", known], ["box"], key[1]) is Verdict.KNOWN


def test_the_fingerprint_is_ssh_keygens(tmp_path: Path) -> None:
    _, blob = make_key(tmp_path / "a")
    listed = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "a.pub")], capture_output=True, encoding="utf-8"
    )
    assert fingerprint(blob) == listed.stdout.split()[1]


@pytest.fixture
def authority(tmp_path: Path, known: Path) -> Path:
    """An authority for *.lab, and a host's key for it to sign."""
    ca = make_key(tmp_path / "ca")
    make_key(tmp_path / "key")
    known.write_text("@cert-authority " + entry("*.lab", ca[1]))
    return tmp_path


def test_a_certificate_of_a_trusted_authority_is_known(authority: Path, known: Path) -> None:
    certificate = certify(authority, "-h", "-n", "gpu.lab")
    assert verdict(known, certificate, "gpu.lab") is Verdict.KNOWN
    assert verdict(known, certificate, "gpu.home") is Verdict.UNKNOWN
    assert kinds_known([known], ["gpu.lab"]) == ["certificate"]


@pytest.mark.parametrize(
    "options",
    [
        ("-h", "-n", "other.lab"),
        ("-n", "gpu.lab"),
        ("-h", "-n", "gpu.lab", "-V", "20200101:20210101"),
        ("-h", "-n", "gpu.lab", "-V", "20990101:21000101"),
    ],
    ids=["another host's", "a user's", "over", "not yet"],
)
def test_a_certificate_that_is_no_good_is_unknown(
    authority: Path, known: Path, options: tuple[str, ...]
) -> None:
    assert verdict(known, certify(authority, *options), "gpu.lab") is Verdict.UNKNOWN


def test_a_certificate_of_another_authority_is_unknown(authority: Path, known: Path) -> None:
    good = certify(authority, "-h", "-n", "gpu.lab")
    stranger = make_key(authority / "stranger")
    known.write_text("@cert-authority " + entry("*.lab", stranger[1]))
    assert verdict(known, good, "gpu.lab") is Verdict.UNKNOWN


def test_a_forged_certificate_is_unknown(authority: Path, known: Path) -> None:
    kind, blob = certify(authority, "-h", "-n", "gpu.lab")
    forged = blob.replace(b"gpu.lab", b"web.lab")
    assert verdict(known, (kind, forged), "web.lab") is Verdict.UNKNOWN


def test_a_revoked_authority_is_refused(authority: Path, known: Path) -> None:
    certificate = certify(authority, "-h", "-n", "gpu.lab")
    known.write_text(known.read_text() + known.read_text().replace("@cert-authority", "@revoked"))
    assert verdict(known, certificate, "gpu.lab") is Verdict.REVOKED
