"""The way to a target: how it is written, and under which names its key is looked up."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.errors import BadSettings, WrongUsage
from cloudrun.hosts import sshconfig
from cloudrun.hosts.route import route, split_target


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sshconfig, "SYSTEM_CONFIG", tmp_path / "none")
    return tmp_path / "config"


def test_several_jumps_with_users_and_ports(config: Path) -> None:
    config.write_text("Host far\n  ProxyJump a@one:23,two\nHost two\n  ProxyJump three\n")
    way = [(hop.user, hop.host, hop.port) for hop in route("me@far", config)]
    assert [host for _, host, _ in way] == ["one", "three", "two", "far"]
    assert way[0] == ("a", "one", 23)
    assert way[-1] == ("me", "far", 22)


def test_jumps_in_a_circle_are_an_error(config: Path) -> None:
    config.write_text("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(BadSettings, match="circle"):
        route("a", config)


def test_a_proxy_command_is_refused_and_not_ignored(config: Path) -> None:
    config.write_text("Host a\n  ProxyCommand nc %h %p\nHost b\n  ProxyCommand none\n")
    with pytest.raises(BadSettings, match="ProxyJump"):
        route("a", config)
    assert route("b", config)[-1].host == "b"


def test_of_proxy_command_and_proxy_jump_the_first_counts(config: Path) -> None:
    config.write_text("Host a\n  ProxyJump b\nHost a\n  ProxyCommand nc %h %p\n")
    assert [hop.host for hop in route("a", config)] == ["b", "a"]
    config.write_text("Host a\n  ProxyCommand nc %h %p\nHost a\n  ProxyJump b\n")
    with pytest.raises(BadSettings, match="ProxyCommand"):
        route("a", config)


def test_without_a_configuration_the_defaults_are_openssh_s(config: Path) -> None:
    (hop,) = route("me@box", config)
    assert (hop.host, hop.port, hop.user, hop.known_as) == ("box", 22, "me", ("box",))
    assert [key.name for key in hop.keys] == ["id_ed25519", "id_ecdsa", "id_rsa"]
    assert hop.known_hosts[0].name == "known_hosts"


def test_the_names_to_look_a_key_up_by(config: Path) -> None:
    config.write_text("Host a\n  HostName 10.99.0.5\n  Port 2222\n  HostKeyAlias box-five\n")
    assert route("a", config)[-1].known_as == ("box-five",)
    assert route("b:2222", config)[-1].known_as == ("[b]:2222", "b")


@pytest.mark.parametrize("port", ["abc", "0", "70000", "-1"])
def test_a_port_that_is_none_is_told(config: Path, port: str) -> None:
    config.write_text(f"Host a\n  Port {port}\n")
    with pytest.raises(BadSettings, match=f"'{port}' as the port of 'a'"):
        route("a", config)


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
