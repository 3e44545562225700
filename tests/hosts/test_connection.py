"""Connections to real machines with real OpenSSH servers: see tests/doubles/machines.py."""

from __future__ import annotations

import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloudrun.errors import AccessDenied, HostUnreachable, Refused, Unavailable
from cloudrun.hosts.base import NOBODY, Person
from cloudrun.hosts.connection import Connection, Done, connect
from cloudrun.hosts.route import Hop
from tests.doubles import machines
from tests.doubles.machines import USER, Machine, hop, trust


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "known_hosts"


def output_of(connected: Connection, command: str) -> bytes:
    channel = connected.open_exec(command)
    with channel.makefile("rb") as stream:
        return bytes(stream.read())


def test_a_known_host_runs_a_command(machine: Machine, known: Path) -> None:
    trust(machine, known)
    with connect([hop(machine)], known) as connected:
        assert (
            output_of(connected, "hostname; id -un") == f"{machine.name}\n{machine.user}\n".encode()
        )
        assert connected.transport.remote_cipher == "aes128-gcm@openssh.com"


def test_an_unknown_key_is_refused_where_nobody_is_there(machine: Machine, known: Path) -> None:
    with pytest.raises(Refused, match="not known.*SHA256:.*nobody to ask"):
        connect([hop(machine)], known, NOBODY)
    assert not known.exists()
    assert not any("Accepted" in line for line in machine.log)


def test_an_unknown_key_is_asked_about_once(machine: Machine, known: Path) -> None:
    asked: list[str] = []

    def yes(question: str) -> bool:
        asked.append(question)
        return True

    for _ in range(2):
        connect([hop(machine)], known, Person(trust=yes)).close()
    assert len(asked) == 1
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(machine.folder / "host_key.pub")],
        capture_output=True,
        encoding="utf-8",
    ).stdout.split()[1]
    assert shown in asked[0]


def test_a_no_is_a_no(machine: Machine, known: Path) -> None:
    with pytest.raises(Refused, match="You said no"):
        connect([hop(machine)], known, Person(trust=lambda _question: False))
    assert not known.exists()


def test_a_changed_key_is_refused_whoever_is_there(
    machine: Machine, known: Path, tmp_path: Path
) -> None:
    other = machines.make_key(tmp_path / "other")
    known.write_text(f"{machine.known_name} {other}\n")
    with pytest.raises(Refused, match=f"has changed.*{known} has another one") as refused:
        connect([hop(machine)], known, Person(trust=lambda _question: True))
    assert not any("Accepted" in line for line in machine.log)
    # What is to be tried leads out of it.
    remedy = refused.value.try_this.partition("(")[2].partition(")")[0]
    subprocess.run(shlex.split(remedy), check=True, capture_output=True)
    connect([hop(machine)], known, Person(trust=lambda _question: True)).close()


def test_a_host_certificate_of_a_trusted_authority_is_enough(
    bridge: str | None, known: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "certified"
    authority = machines.make_key(tmp_path / "ca")
    with machines.machine(bridge, 12, folder, authority=tmp_path / "ca") as certified:
        known.write_text(f"@cert-authority {certified.known_name} {authority}\n")
        with connect([hop(certified)], known) as connected:
            assert output_of(connected, "echo hello") == b"hello\n"
        # Of another authority, it is worth as much as the plain key in it.
        stranger = f"@cert-authority * {machines.make_key(tmp_path / 'stranger')}\n"
        known.write_text(f"{stranger}{certified.known_name} {certified.host_key}\n")
        connect([hop(certified)], known).close()
        known.write_text(stranger)
        asked: list[str] = []
        for _ in range(2):
            connect([hop(certified)], known, Person(trust=lambda q: not asked.append(q))).close()
        shown = subprocess.run(
            ["ssh-keygen", "-l", "-f", str(certified.folder / "host_key.pub")],
            capture_output=True,
            encoding="utf-8",
        ).stdout.split()[1]
        assert [shown in question for question in asked] == [True]


def test_a_revoked_key_is_no_good_in_a_certificate_either(
    bridge: str | None, known: Path, tmp_path: Path
) -> None:
    authority = machines.make_key(tmp_path / "ca")
    with machines.machine(bridge, 12, tmp_path / "it", authority=tmp_path / "ca") as certified:
        vouched = f"@cert-authority * {authority}\n"
        known.write_text(f"{vouched}@revoked * {certified.host_key}\n")
        with pytest.raises(Refused, match="has been revoked"):
            connect([hop(certified)], known, Person(trust=lambda _question: True))
        known.write_text(vouched)
        connect([hop(certified)], known).close()


def test_a_key_that_is_not_let_in_says_what_was_tried(
    machine: Machine, known: Path, tmp_path: Path
) -> None:
    trust(machine, known)
    machines.make_key(tmp_path / "stranger")
    with pytest.raises(AccessDenied) as caught:
        connect([hop(machine, keys=(tmp_path / "stranger", tmp_path / "missing"))], known)
    assert str(tmp_path / "stranger") in caught.value.why
    assert "ssh-copy-id" in caught.value.try_this
    with pytest.raises(AccessDenied, match="no key to try"):
        connect([hop(machine, keys=())], known)


def test_the_second_key_is_tried_after_the_first(
    machine: Machine, known: Path, tmp_path: Path
) -> None:
    trust(machine, known)
    machines.make_key(tmp_path / "stranger")
    connect([hop(machine, keys=(tmp_path / "stranger", machine.key))], known).close()


def test_a_passphrase_is_asked_for(machine: Machine, known: Path, tmp_path: Path) -> None:
    trust(machine, known)
    locked = tmp_path / "locked"
    shutil.copy(machine.key, locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open sesame", "-f", str(locked)], check=True)
    person = Person(passphrase=lambda path: "open sesame" if path == locked else None)
    connect([hop(machine, keys=(locked,))], known, person).close()
    answers = iter(["open", "sesame", "open sesame"])
    mistyping = Person(passphrase=lambda _path: next(answers))
    connect([hop(machine, keys=(locked,))], known, mistyping).close()
    with pytest.raises(AccessDenied, match="passphrase.*wrong"):
        connect([hop(machine, keys=(locked,))], known, Person(passphrase=lambda _path: "wrong"))
    with pytest.raises(AccessDenied, match="locked.*ssh-add"):
        connect([hop(machine, keys=(locked,))], known, NOBODY)


@pytest.mark.parametrize("form", ["PKCS8", "PEM"])
@pytest.mark.parametrize("phrase", ["", "open sesame"])
def test_keys_of_other_forms_are_read(
    machine: Machine, known: Path, tmp_path: Path, form: str, phrase: str
) -> None:
    trust(machine, known)
    key, allowed = tmp_path / "key", machine.home / ".ssh" / "authorized_keys"
    make = ["ssh-keygen", "-q", "-t", "ecdsa", "-m", form, "-N", phrase, "-f", str(key)]
    subprocess.run(make, check=True)
    with allowed.open("a") as file:
        file.write(key.with_suffix(".pub").read_text())
    asked: list[Path] = []
    person = Person(passphrase=lambda path: asked.append(path) or phrase)  # type: ignore[func-returns-value]
    connect([hop(machine, keys=(key,))], known, person).close()
    assert bool(asked) == bool(phrase)


def test_a_machine_that_wants_more_than_a_key_says_so(
    bridge: str | None, known: Path, tmp_path: Path
) -> None:
    more = "PasswordAuthentication yes\nAuthenticationMethods publickey,password\n"
    with machines.machine(bridge, 12, tmp_path / "strict", config=more) as strict:
        trust(strict, known)
        with pytest.raises(AccessDenied, match="takes the key, and wants more.*password"):
            connect([hop(strict)], known)


def test_few_sessions_are_enough_and_none_is_told(
    bridge: str | None, known: Path, tmp_path: Path
) -> None:
    with machines.machine(bridge, 12, tmp_path / "few", config="MaxSessions 1\n") as few:
        trust(few, known)
        with connect([hop(few)], known) as connected:
            connected.warm()
            assert connected.run_script("echo one").out == b"one\n"
            with connected.exchange("cat"), pytest.raises(Unavailable, match="MaxSessions"):
                connected.run_script("echo two")
            assert connected.is_alive


def test_the_agents_key_is_used(
    machine: Machine, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust(machine, known)
    sock = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        while subprocess.run(["ssh-add", "-q", str(machine.key)], capture_output=True).returncode:
            assert agent.poll() is None
        connect([hop(machine, keys=())], known).close()
        with pytest.raises(AccessDenied):
            connect([hop(machine, keys=(), only_these_keys=True)], known)
        monkeypatch.delenv("SSH_AUTH_SOCK")
        connect([hop(machine, keys=(), agent=str(sock))], known).close()
        monkeypatch.setenv("MY_AGENT", str(sock))
        connect([hop(machine, keys=(), agent="$MY_AGENT")], known).close()
        # The agent has the key, and the configuration only its public half.
        half = tmp_path / "half.pub"
        shutil.copy(machine.key.with_suffix(".pub"), half)
        only = hop(machine, keys=(half,), agent=str(sock), only_these_keys=True)
        connect([only], known).close()
        for none in ("none", str(tmp_path / "missing")):
            with pytest.raises(AccessDenied, match="no key to try"):
                connect([hop(machine, keys=(), agent=none)], known)
    finally:
        agent.terminate()
        agent.wait()


def test_a_jump_host_leads_on(
    bridge: str | None, machine: Machine, known: Path, tmp_path: Path
) -> None:
    with machines.machine(bridge, 13, tmp_path / "far") as far:
        known.write_text("".join(f"{each.known_name} {each.host_key}\n" for each in (machine, far)))
        with connect([hop(machine), hop(far)], known) as connected:
            assert output_of(connected, "hostname") == f"{far.name}\n".encode()
        assert any(machine.address in line for line in far.log if "Accepted" in line)


def test_hosts_that_are_not_there_are_told_apart(machine: Machine, known: Path) -> None:
    with pytest.raises(HostUnreachable, match="Nothing listens on its port 23"):
        connect([hop(machine, port=23)], known)
    with pytest.raises(HostUnreachable, match="no host named"):
        connect([hop(machine, host="no-such-host.invalid")], known)


@pytest.mark.needs_namespaces("its network is cut")
def test_a_host_that_does_not_answer_is_told(
    machine: Machine, known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloudrun.hosts.dial.CONNECT_S", 1.0)
    machine.cut()
    with pytest.raises(HostUnreachable, match="did not answer within 1 s"):
        connect([hop(machine)], known)


def test_what_is_no_ssh_server_is_told(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloudrun.hosts.dial.CONNECT_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            peer.close()

        threading.Thread(target=answer, daemon=True).start()
        port = server.getsockname()[1]
        with pytest.raises(HostUnreachable):
            connect([Hop("127.0.0.1", port, USER)], known)


@pytest.mark.needs_namespaces("its network is cut")
def test_a_dead_peer_is_noticed_within_15_seconds(machine: Machine, known: Path) -> None:
    trust(machine, known)
    with connect([hop(machine)], known) as connected:
        channel = connected.open_exec("cat")
        machine.cut()
        channel.sendall(b"is anybody there")
        began = time.monotonic()
        assert channel.recv(100) == b""
        assert time.monotonic() - began < 15
        assert not connected.is_alive
        with pytest.raises(HostUnreachable, match="lost"):
            connected.open_exec("true")


@pytest.mark.needs_namespaces("its network is cut")
def test_a_dead_machine_is_noticed_behind_a_jump_host(
    bridge: str | None,
    machine: Machine,
    known: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cloudrun.hosts.dial.DEAD_S", 2)
    monkeypatch.setattr("cloudrun.hosts.dial.KEEPALIVE_S", 1)
    with machines.machine(bridge, 13, tmp_path / "far") as far:
        known.write_text("".join(f"{each.known_name} {each.host_key}\n" for each in (machine, far)))
        with connect([hop(machine), hop(far)], known) as connected:
            channel = connected.open_exec("sleep 4; echo still; cat")
            # Of a machine that lives, silence is no death.
            assert channel.recv(100) == b"still\n"
            far.cut()
            began = time.monotonic()
            assert channel.recv(100) == b""
            assert time.monotonic() - began < 10
            assert not connected.is_alive


@pytest.mark.needs_namespaces("it is switched off")
def test_a_machine_that_is_switched_off_is_noticed_at_once(machine: Machine, known: Path) -> None:
    trust(machine, known)
    with connect([hop(machine)], known) as connected:
        channel = connected.open_exec("sleep 600")
        machine.power_off()
        assert channel.recv(100) == b""
        assert not connected.is_alive


def test_a_script_runs_whatever_the_users_shell_and_is_in_no_list(
    connection: Connection, machine: Machine
) -> None:
    done = connection.run_script(
        "echo \"it's here\" >&2\nhead -c 3\nps -eo args | grep -c 'a secre[t]'\nexit 7", b"abcdef"
    )
    assert done == Done(7, b"abc0\n", b"it's here\n")


@pytest.mark.parametrize("noise", ["echo hello", "printf nonl", "echo oh >&2; printf no >&2"])
def test_what_a_profile_says_is_no_matter(
    connection: Connection, machine: Machine, noise: str
) -> None:
    (machine.home / ".bashrc").write_text(f"{noise}\n")
    assert connection.run_script("echo on; echo off >&2") == Done(0, b"on\n", b"off\n")


def test_a_profile_that_ends_the_shell_is_told(connection: Connection, machine: Machine) -> None:
    (machine.home / ".bashrc").write_text("echo no entry; exit 0\n")
    with pytest.raises(HostUnreachable, match="ended before it could be used: no entry"):
        connection.run_script("echo on")


@pytest.mark.needs_namespaces("it is switched off")
def test_a_connection_that_is_lost_in_a_script_is_no_exit_status(
    connection: Connection, machine: Machine
) -> None:
    channel = connection.open_script("echo ready; sleep 60")
    assert next(iter(connection.receive(channel, 10))) == (1, b"ready\n")
    machine.power_off()
    list(connection.receive(channel, 20))
    with pytest.raises(HostUnreachable, match="cut off"):
        connection.status(channel)


def test_a_link_that_breaks_while_its_words_are_taken_is_told(
    connection: Connection, machine: Machine
) -> None:
    with (
        pytest.raises(HostUnreachable, match="was lost"),
        connection.exchange("head -c 1000000 /dev/zero; sleep 60") as channel,
    ):
        while len(channel.in_buffer) < 1_000_000:
            time.sleep(0.01)
        # Nothing goes out any more, and the other side cannot say so.
        machine.signal_sessions(signal.SIGSTOP)
        connection.transport.sock.shutdown(socket.SHUT_WR)
        list(connection.receive(channel, 5))


def test_scripts_of_two_threads_do_not_meet(connection: Connection) -> None:
    def echo(name: str) -> list[bytes]:
        return [connection.run_script(f"echo {name}{turn}").out for turn in range(40)]

    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(echo, "ab"))
    assert said == [[f"{name}{turn}\n".encode() for turn in range(40)] for name in "ab"]
