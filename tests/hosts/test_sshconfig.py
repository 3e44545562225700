"""The SSH configuration as OpenSSH itself resolves it: `ssh -G` is the judge."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cloudrun.errors import BadSettings, WrongUsage
from cloudrun.hosts import sshconfig
from cloudrun.hosts.sshconfig import route, split_target

CONFIG = """
# Real life: includes at the top, an alias, wildcards, negation, Match, an equals sign.
Include {folder}/conf.d/*.conf
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
    HostName q.example.net
Host *
    User everyone
    IdentityFile {folder}/all_keys
    IdentitiesOnly yes
"""
INCLUDED = {
    "conf.d/10-bastion.conf": "Host bastion\n  HostName 10.99.0.1\n  User jump\n",
    "conf.d/20-lab.conf": "Host lab\n\tHostName\tlab.internal\n\tPort 4022\n",
    "conf.d/ignored.txt": "Host *\n  Port 9\n",
    "work.inc": "HostName work.local\nHost other\n  User inner\nHost w*\n  Port 77\n",
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sshconfig, "SYSTEM_CONFIG", tmp_path / "none")
    for name, text in INCLUDED.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    path = tmp_path / "config"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


def openssh(config: Path, host: str) -> dict[str, str]:
    done = subprocess.run(
        ["ssh", "-G", "-F", str(config), host], capture_output=True, encoding="utf-8", check=True
    )
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    "host",
    [
        "work",
        "other",
        "wide",
        "BoxA",
        "Boxer",
        "lab",
        "lab.internal",
        "plain",
        "quoted",
        "root@BoxB",
    ],
)
def test_a_host_is_resolved_as_openssh_does(config: Path, host: str) -> None:
    ours, theirs = route(host, config)[-1], openssh(config, host)
    assert ours.host == theirs["hostname"]
    assert str(ours.port) == theirs["port"]
    assert ours.user == theirs["user"]
    assert [str(key) for key in ours.keys] == [theirs["identityfile"]]
    assert ours.only_these_keys


def test_jumps_come_first_and_are_resolved_too(config: Path) -> None:
    way = [str(hop) for hop in route("BoxA", config)]
    assert way == ["jump@10.99.0.1", "everyone@boxa.example.org:2222"]


def test_several_jumps_with_users_and_ports(config: Path) -> None:
    config.write_text("Host far\n  ProxyJump a@one:23,two\nHost two\n  ProxyJump three\n")
    way = [(hop.user, hop.host, hop.port) for hop in route("me@far", config)]
    assert [host for _, host, _ in way] == ["one", "three", "two", "far"]
    assert way[0] == ("a", "one", 23)
    assert way[-1] == ("me", "far", 22)


def test_the_command_line_goes_over_the_configuration(config: Path) -> None:
    assert str(route("ssh://me@work:5", config)[-1]) == "me@work.local:5"


def test_jumps_in_a_circle_are_an_error(config: Path) -> None:
    config.write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(BadSettings, match="circle"):
        route("a", config)


def test_a_file_that_includes_itself_is_an_error(config: Path) -> None:
    config.write_text(f"Include {config}\n")
    with pytest.raises(BadSettings, match="includes itself"):
        route("a", config)


def test_a_proxy_command_is_refused_and_not_ignored(config: Path) -> None:
    config.write_text("Host a\n  ProxyCommand nc %h %p\nHost b\n  ProxyCommand none\n")
    with pytest.raises(BadSettings, match="ProxyJump"):
        route("a", config)
    assert route("b", config)[-1].host == "b"


def test_without_a_configuration_the_defaults_are_openssh_s(tmp_path: Path) -> None:
    (hop,) = route("me@box", tmp_path / "missing")
    assert (hop.host, hop.port, hop.user, hop.name) == ("box", 22, "me", "box")
    assert [key.name for key in hop.keys] == ["id_ed25519", "id_ecdsa", "id_rsa"]
    assert hop.known_hosts[0].name == "known_hosts"


def test_a_host_key_alias_is_the_name_to_look_up(config: Path) -> None:
    config.write_text("Host a\n  HostName 10.99.0.5\n  HostKeyAlias box-five\n")
    assert route("a", config)[-1].name == "box-five"


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("box", (None, "box", None)),
        ("me@Box:2222", ("me", "Box", 2222)),
        ("ssh://me@box", ("me", "box", None)),
        ("ssh://[::1]:22", (None, "::1", 22)),
    ],
)
def test_targets_are_taken_apart(target: str, parts: tuple[str | None, str, int | None]) -> None:
    assert split_target(target) == parts


@pytest.mark.parametrize(
    "target",
    [
        *("", "me@", "box:port", "box:99999", "-oProxyCommand=x", "a;b", "$(x)", "a b"),
        *("me:password@box", "box/folder"),
    ],
)
def test_what_names_no_host_is_refused(target: str) -> None:
    with pytest.raises(WrongUsage, match="does not name a host"):
        split_target(target)
