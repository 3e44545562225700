"""The SSH configuration as OpenSSH itself resolves it: `ssh -G` is the judge."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cloudrun.errors import BadSettings
from cloudrun.hosts import sshconfig
from cloudrun.hosts.route import route

CONFIG = """
# Real life: includes at the top, an alias, wildcards, negation, Match, an equals sign.
Include {folder}/conf.d/*.conf "{folder}/a folder/*.conf"
Host work
    Include {folder}/work.inc
    User late
Host Box* !Boxer
    HostName %h.example.org
    Port=2222
    ProxyJump bastion
Match originalhost lab host lab.internal
    User labrat
Match host *.example.org user root
    Port 1022
Host "quoted"
    HostName q.example.net  # where it was moved to
    Port 2022               # new
Host said*
    HostName "%h%%.example.org"
Match user ubuntu,!nobody
    Port 3022
Match host=equals !originalhost other
    User equal
Match originalhost told exec "test %n = told"
    Port 5022
Match originalhost told exec "exit 1"
    User never
Match final host *.example.com
    User finally
Host short
    HostName short.example.com
Match canonical originalhost asking
    Include {folder}/asks.inc
    HostName too.late
Host renamed
    HostName renamed.example.net
Host *.example.net
    Port 6022
Host *
    User everyone
    IdentityFile {folder}/all_keys
    IdentityFile ${{SSH_TEST_KEYS}}/%r@%n/%p
    IdentityFile {folder}/all_keys
    UserKnownHostsFile {folder}/known_%h "{folder}/of all"
    IdentitiesOnly yes
"""
INCLUDED = {
    # As Fedora and its relatives bring it.
    "conf.d/50-redhat.conf": "Match final all\n  Include {folder}/final.inc\n",
    "final.inc": "Ciphers aes128-ctr\nMatch host short.example.com\n  Port 99\n",
    # It asks for a second reading from within a block that is not about the host.
    "asks.inc": "Port 7022\nMatch !final\n  User nobody\n",
    "a folder/spaced.conf": "Host spaced\n  User of_a_space\n",
    "conf.d/10-bastion.conf": "Host bastion\n  HostName 10.99.0.1\n  User jump\n",
    "conf.d/20-lab.conf": "Host lab\n\tHostName\tlab.internal\n\tPort 4022\n",
    "conf.d/ignored.txt": "Host *\n  Port 9\n",
    "work.inc": "HostName work.local\nHost other\n  User inner\nHost w*\n  Port 77\n",
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sshconfig, "SYSTEM_CONFIG", tmp_path / "none")
    monkeypatch.setenv("SSH_TEST_KEYS", "/keys")
    for name, text in INCLUDED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.format(folder=tmp_path))
    path = tmp_path / "config"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def openssh(config: Path, host: str) -> dict[str, list[str]]:
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), host], capture_output=True, encoding="utf-8", check=True
    )
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


@pytest.mark.parametrize(
    "host",
    [
        *("work", "other", "wide", "BoxA", "boxa", "Boxer", "lab", "lab.internal", "plain"),
        *(
            "quoted",
            "root@BoxB",
            "said",
            "ubuntu@far",
            "equals",
            "told",
            "short",
            "spaced",
            "renamed",
            "asking",
        ),
    ],
)
def test_a_host_is_resolved_as_openssh_does(config: Path, host: str) -> None:
    ours, theirs = route(host, config)[-1], openssh(config, host)
    assert [ours.host] == theirs["hostname"]
    assert [str(ours.port)] == theirs["port"]
    assert [ours.user] == theirs["user"]
    # OpenSSH shows tokens and variables as they are written; here they are replaced.
    shown = [_replaced(path, theirs, host) for path in theirs["identityfile"]]
    assert [str(key) for key in ours.keys] == shown
    known = f"{config.parent}/known_{ours.host}"
    assert [str(path) for path in ours.known_hosts[:2]] == [known, f"{config.parent}/of all"]
    assert ours.only_these_keys


def _replaced(path: str, theirs: dict[str, list[str]], host: str) -> str:
    name = host.rpartition("@")[2]
    for token, value in (("%r", theirs["user"][0]), ("%n", name), ("%p", theirs["port"][0])):
        path = path.replace(token, value)
    return path.replace("${SSH_TEST_KEYS}", "/keys")


def test_the_systems_file_begins_anew(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("Host x\n  User mine\n")
    system = config.with_name("system")
    system.write_text("User of_all\nPort 2222\nHost y\n  Port 1\n")
    monkeypatch.setattr(sshconfig, "SYSTEM_CONFIG", system)
    assert str(route("unrelated", config)[-1]) == "of_all@unrelated:2222"
    assert str(route("x", config)[-1]) == "mine@x:2222"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("Match", "needs a criterion"),
        ("Match hots box", "no criterion 'hots'"),
        ("Match user", "'user' lacks its value"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(config: Path, line: str, why: str) -> None:
    config.write_text(f"Port 1\n{line}\n")
    with pytest.raises(BadSettings, match=rf"line 2 of {config}\. .*{why}"):
        route("box", config)


@pytest.mark.parametrize("criterion", ["localnetwork 10.0.0.0/8", "!sessiontype shell"])
def test_a_block_that_asks_for_what_we_do_not_tell_is_left_out(
    config: Path, criterion: str
) -> None:
    config.write_text(f"Match {criterion}\n  User inner\nMatch all\n  User outer\n")
    assert route("box", config)[-1].user == "outer"


def test_jumps_come_first_and_are_resolved_too(config: Path) -> None:
    way = [str(hop) for hop in route("BoxA", config)]
    assert way == ["jump@10.99.0.1", "everyone@boxa.example.org:2222"]


def test_the_command_line_goes_over_the_configuration(config: Path) -> None:
    assert str(route("ssh://me@work:5", config)[-1]) == "me@work.local:5"


def test_a_file_that_includes_itself_is_an_error(config: Path) -> None:
    config.write_text(f"Include {config}\n")
    with pytest.raises(BadSettings, match="includes itself"):
        route("a", config)
