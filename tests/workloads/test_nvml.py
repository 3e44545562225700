"""NVML by ctypes, against a library with NVIDIA's function signatures (tests/doubles/nvml.c)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "doubles" / "nvml.c"
FIRST = "00000000-aaaa-bbbb-cccc-000000000000"
SECOND = "11111111-aaaa-bbbb-cccc-111111111111"
PART = "22222222-aaaa-bbbb-cccc-222222222222"
STRANGER = "33333333-aaaa-bbbb-cccc-333333333333"

# What torch says of the GPU stands in for torch: only that is asked of it here.
_SCRIPT = """
import ctypes, json, sys, types

torch = types.ModuleType("torch")
torch.cuda = types.ModuleType("torch.cuda")
uuid = sys.argv[1]
torch.cuda.get_device_properties = lambda device: types.SimpleNamespace(
    **({"uuid": uuid} if uuid else {})
)
sys.modules["torch"] = torch

from cloudrun.workloads import nvml

answers = {}
try:
    with nvml.open_device("cuda:0") as gpu:
        answers["known"] = gpu is not None
        if gpu is not None:
            exec(sys.argv[2])
except LookupError:
    answers["raised"] = True
try:
    answers["open"] = ctypes.CDLL(nvml._LIBRARY).double_open_count()
except OSError:
    pass
print(json.dumps(answers))
"""

_EVERYTHING = """
for name in ("clock_mhz", "temperature_c", "power_w", "energy_j", "throttle_reasons",
             "uncorrected_errors", "is_out_of_spare_memory", "link", "others", "uuid", "vbios",
             "is_part"):
    answers[name] = getattr(gpu, name)()
answers["ever"] = gpu.uncorrected_errors(ever=True)
"""


def _build(folder: Path, *flags: str) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("The double of NVML needs a C compiler, on Linux.")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-shared", "-fPIC", *flags, "-o", library, SOURCE],
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="module")
def old_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(tmp_path_factory.mktemp("old_nvml"), "-DOLD_DRIVER")


def ask(folder: Path, uuid: str | None = FIRST, code: str = _EVERYTHING, **env: Any) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, uuid or "", code],
        capture_output=True,
        encoding="utf-8",
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(folder),
            **{f"NVML_{name}": str(value) for name, value in env.items()},
        },
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_answer_in_its_unit_and_everything_closed_at_the_end(library: Path) -> None:
    assert ask(library, REASONS=0x64, ECC=2, ECC_EVER=5, OTHERS=3) == {
        "known": True,
        "clock_mhz": 1410,
        "temperature_c": 61,
        "power_w": 249.5,
        "energy_j": 7500.0,
        "throttle_reasons": ["its power limit", "heat", "heat (hardware)"],
        "uncorrected_errors": 2,
        "ever": 5,
        "is_out_of_spare_memory": False,
        "link": "its PCIe link is generation 3 x8 of 4 x16",
        "others": 3,
        "uuid": f"GPU-{FIRST}",
        "vbios": "92.00.19.00.01",
        "is_part": False,
        "open": 0,
    }


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x00, []),
        (0x01, []),  # idle: nothing holds it back
        (0x02, ["a clock that was set by hand"]),
        (0x04, ["its power limit"]),
        (0x08, ["a hardware slowdown"]),
        (0x20, ["heat"]),
        (0x40, ["heat (hardware)"]),
        (0x80, ["the power supply"]),
    ],
)
def test_each_reason_has_its_words(library: Path, bits: int, words: list[str]) -> None:
    answers = ask(library, code="answers['why'] = gpu.throttle_reasons()", REASONS=bits)
    assert answers["why"] == words


def test_the_gpu_is_found_by_its_uuid_whatever_its_number(library: Path) -> None:
    answers = ask(library, SECOND)
    assert (answers["clock_mhz"], answers["power_w"]) == (1755, 71.0)


def test_a_part_of_a_gpu_tells_the_whole_ones_clock_and_its_own_programs(library: Path) -> None:
    answers = ask(library, PART, OTHERS=1)
    assert (answers["clock_mhz"], answers["others"], answers["open"]) == (1755, 1, 0)
    assert (answers["uuid"], answers["vbios"]) == (f"MIG-{PART}", "96.00.74.00.01")
    assert answers["is_part"] is True


def test_a_gpu_that_nvml_does_not_know_is_none(library: Path) -> None:
    assert ask(library, STRANGER) == {"known": False, "open": 0}


def test_a_torch_that_tells_no_uuid_gets_the_only_gpu_and_none_of_several(library: Path) -> None:
    assert ask(library, None, GPUS=1)["clock_mhz"] == 1410
    assert ask(library, None, GPUS=2) == {"known": False, "open": 0}
    assert ask(library, None, GPUS=0) == {"known": False, "open": 0}


def test_without_a_driver_or_its_library_there_is_no_gpu(library: Path, tmp_path: Path) -> None:
    assert ask(library, NO_DRIVER=1) == {"known": False, "open": 0}
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")
    assert ask(tmp_path) == {"known": False}


def test_a_question_that_is_not_supported_stays_unanswered(library: Path) -> None:
    answers = ask(library, UNSUPPORTED="all")
    silent = {"clock_mhz", "temperature_c", "power_w", "energy_j", "throttle_reasons"}
    silent |= {"uuid", "vbios"}
    assert {answers[name] for name in silent} == {None}
    assert (answers["uncorrected_errors"], answers["ever"], answers["others"]) == (None,) * 3
    assert answers["is_out_of_spare_memory"] is False
    assert answers["link"] == "its PCIe link is not told"
    assert answers["open"] == 0


def test_an_old_driver_has_another_name_for_the_reasons_and_no_spare_rows(
    old_library: Path,
) -> None:
    answers = ask(old_library, REASONS=0x04, NO_SPARE=1)
    assert answers["throttle_reasons"] == ["its power limit"]
    assert answers["is_out_of_spare_memory"] is False


def test_memory_that_could_not_be_replaced_is_told(library: Path) -> None:
    assert ask(library, NO_SPARE=1)["is_out_of_spare_memory"] is True


def test_programs_are_not_counted_where_this_one_is_not_seen(library: Path) -> None:
    assert ask(library, OTHERS=3, CONTAINER=1)["others"] is None


def test_more_programs_than_expected_are_no_answer_and_no_crash(library: Path) -> None:
    assert ask(library, OTHERS=300)["others"] is None


def test_an_error_inside_closes_the_library_too(library: Path) -> None:
    assert ask(library, code="raise LookupError") == {"known": True, "raised": True, "open": 0}


# Time as the test wants it: two seconds pass between entering and leaving.
_WATCH = """
class Clock:
    times = iter((10.0, 12.0))
    def monotonic(self):
        return next(self.times)
nvml.time, nvml._SAMPLES_PER_S = Clock(), 1e6
with nvml.Watch(gpu) as watch:
    while len(watch._rows) < 3:
        pass
answers["seen"], answers["counted"] = watch.summary(), [watch.seconds, watch.counted_power_w]
"""


def test_a_watch_reckons_power_from_energy_over_time(library: Path) -> None:
    # The double's counter goes up by 500 J from one question to the next: 250 W over 2 s.
    answers = ask(library, code=_WATCH, REASONS=0x04)
    assert answers["counted"] == [2.0, 250.0]
    assert answers["seen"] == {
        "clock_mhz": 1410,
        "power_w": 250.0,
        "temperature_c": 61,
        "throttled_by": ["its power limit"],
    }


def test_a_watch_takes_sampled_power_where_energy_is_not_counted(library: Path) -> None:
    answers = ask(library, code=_WATCH, UNSUPPORTED="nvmlDeviceGetTotalEnergyConsumption")
    assert (answers["seen"]["power_w"], answers["seen"]["throttled_by"]) == (249.5, [])
    assert answers["counted"] == [2.0, None]


def test_a_watch_on_a_gpu_that_tells_nothing_has_seen_nothing(library: Path) -> None:
    assert ask(library, code=_WATCH, UNSUPPORTED="all")["seen"] == {
        "clock_mhz": None,
        "power_w": None,
        "temperature_c": None,
        "throttled_by": [],
    }


def test_a_watch_too_short_for_the_counter_of_energy_reckons_no_power_from_it(
    library: Path,
) -> None:
    answers = ask(library, code=_WATCH.replace("12.0", "10.4"))
    assert (answers["counted"][1], answers["seen"]["power_w"]) == (None, 249.5)


@pytest.mark.parametrize(("samples", "clock"), [(0, None), (2, None), (3, 1410)])
def test_a_few_samples_of_the_clock_are_no_clock(
    library: Path, samples: int, clock: int | None
) -> None:
    code = f"""
watch = nvml.Watch(gpu)
watch._rows = [(1410, None, None)] * {samples}
answers["seen"] = watch.summary()
"""
    assert ask(library, code=code)["seen"]["clock_mhz"] == clock
