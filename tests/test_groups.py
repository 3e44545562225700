"""The suite's own promise: the tests of one group run in one worker, one after the other."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

_GROUP = """
import pytest
pytestmark = pytest.mark.xdist_group("torch")
@pytest.mark.parametrize("number", range(8))
def test_one(number): pass
"""


def test_a_group_runs_in_one_worker(tmp_path: Path) -> None:
    (tmp_path / "test_group.py").write_text(_GROUP)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n", "2", "--dist=loadgroup", str(tmp_path)],
        capture_output=True,
        encoding="utf-8",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout
    assert len(set(re.findall(r"\[(gw\d)\].*PASSED", done.stdout))) == 1
