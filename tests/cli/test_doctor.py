from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.conftest import Cloudrun

pytestmark = pytest.mark.xdist_group("torch")


def findings(cloudrun: Cloudrun, **env: str) -> dict[str, dict[str, str]]:
    rows = json.loads(cloudrun("doctor", "--json", env={**os.environ, **env}).stdout)
    return {row["name"]: row for row in rows}


def test_a_healthy_machine_is_told_its_install_line(cloudrun: Cloudrun, home: Path) -> None:
    found = findings(cloudrun)
    assert {finding["status"] for finding in found.values()} <= {"pass", "skip"}
    assert "python -m pip install" in found["torch"]["detail"]
    assert found["device"]["detail"] == "torch computes on CPU."
    assert str(home) in found["store"]["detail"]
    assert cloudrun("doctor").returncode == 0


def test_a_broken_torch_and_broken_settings_are_found_together(
    cloudrun: Cloudrun, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "planted" / "torch").mkdir(parents=True)
    (tmp_path / "planted" / "torch" / "__init__.py").write_text("raise OSError('libc10.so: bad')")
    home.mkdir()
    (home / "config.toml").write_text('stroe = "x"')
    found = findings(cloudrun, PYTHONPATH=str(tmp_path / "planted"))
    assert found["device"]["status"] == "fail"
    assert "libc10.so" in found["device"]["detail"]
    assert found["settings"]["status"] == "fail"
    assert "Did you mean 'store'" in found["settings"]["remedy"]
    assert cloudrun("doctor").returncode == 1


def test_a_gpu_with_an_old_driver_gets_the_line_that_fits_it(
    cloudrun: Cloudrun, tmp_path: Path
) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'Tesla V100-SXM2-16GB, 550.54.15, 7.0, 16384'\n")
    smi.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    found = findings(cloudrun, PATH=path)
    assert "V100" in found["gpu"]["detail"]
    assert "cu126" in found["torch"]["detail"]
    assert Path(sys.executable).exists()
