"""The machines of the tests where no namespaces can be made: this holds also where they can."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.hosts.connection import connect
from tests.doubles import machines
from tests.doubles.machines import hop, trust


def test_a_machine_on_the_loopback_has_a_home_of_its_own_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not machines.is_possible():
        pytest.skip("needs openssh-server")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with machines.machine(None, 1, tmp_path / "machine") as machine:
        tool = machine.root / "usr/local/bin/tool"
        tool.write_text("#!/bin/sh\necho a tool\n")
        tool.chmod(0o755)
        trust(machine, tmp_path / "known")
        with connect([hop(machine)], tmp_path / "known") as connection:
            said = connection.run_script("pwd; echo ~; tool; setsid sleep 982 >&- 2>&- &").out
            assert said.decode() == f"{machine.home}\n{machine.home}\na tool\n"
            assert "sleep 982" in machines.processes(machine)
    assert machines.processes(machine) == ""
    with pytest.raises(AssertionError, match="namespaces"):
        machines.machine(None, 1, tmp_path / "small", disk="1m").__enter__()
