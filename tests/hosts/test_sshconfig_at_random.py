"""Random SSH configurations are resolved as OpenSSH resolves them: `ssh -G` is the judge."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from cloudrun.hosts import sshconfig
from cloudrun.hosts.route import route

_HOSTS = ("a", "b", "ab", "A", "box", "box.lan", "x.y.z")
_PATTERNS = ("a", "b", "*", "?", "b*", "*.lan", "!a", "!b*", "ab", "box", "x.?.z", "*.z")
_OPTIONS = (
    *("HostName h1", "HostName %h.lan", "HostName box", "HostName %%h", "HostName q.z"),
    *("Port 22", "Port 23", "Port=25", "User u", "User root", 'User "w w" # a comment'),
    *("IdentityFile /k/a", "IdentityFile /k/b", "IdentitiesOnly yes", "# note", ""),
    *("HostKeyAlias al", "HostKeyAlias be"),
)
_CRITERIA = (
    *("final", "canonical", 'exec "true"', 'exec "false"', 'exec "test %h = box"'),
    *("host a", "host *.lan", "host !a,*", "host h1,q.z", "originalhost box", "originalhost b*"),
    *("user u", "user !root,*", "user v,w", "localuser r*", "localuser !root,*"),
)


def _block(chance: random.Random) -> str:
    if chance.random() < 0.5:
        return "Host " + " ".join(chance.sample(_PATTERNS, chance.randint(1, 3)))
    criteria = chance.sample(_CRITERIA, chance.randint(1, 3))
    return "Match " + " ".join(chance.choice(("", "", "!")) + each for each in criteria)


def _lines(chance: random.Random, most: int, options: tuple[str, ...]) -> list[str]:
    lines = chance.choices(options, k=chance.randint(0, 2))
    for _ in range(chance.randint(0, most)):
        lines += [_block(chance), *chance.choices(options, k=chance.randint(0, 4))]
    return lines


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(4))
def test_any_configuration_is_read_as_openssh_reads_it(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sshconfig, "SYSTEM_CONFIG", tmp_path / "none")
    chance, compared = random.Random(seed), 0
    config, included = tmp_path / "config", tmp_path / "included"
    for _ in range(250):
        included.write_text("\n".join(_lines(chance, 2, _OPTIONS)) + "\n")
        lines = _lines(chance, 5, (*_OPTIONS, f"Include {included}"))
        config.write_text("\n".join(lines) + "\n")
        target = chance.choice(("", "", "u@", "v@")) + chance.choice(_HOSTS)
        command = ["ssh", "-G", "-F", str(config), target]
        judged = subprocess.run(command, capture_output=True, encoding="utf-8")
        if judged.returncode:
            continue
        said = [line.partition(" ")[::2] for line in judged.stdout.splitlines()]
        theirs = dict(said)
        hop = route(target, config)[-1]
        assert [hop.host, str(hop.port), hop.user, hop.alias] == [
            theirs["hostname"], theirs["port"], theirs["user"], theirs.get("hostkeyalias", ""),
        ], config.read_text()  # fmt: skip
        assert hop.only_these_keys == (theirs["identitiesonly"] == "yes"), config.read_text()
        keys = [value for keyword, value in said if keyword == "identityfile"]
        if any(key.startswith("/k/") for key in keys):
            assert [str(key) for key in hop.keys] == keys, config.read_text()
        compared += 1
    assert compared > 50
