"""Reports made by hand, for tests that need no machine."""

from __future__ import annotations

from typing import Any

import msgspec

from cloudrun.reports.schema import Report

CPU = {
    "device": "cpu",
    "os": "Linux 6.1",
    "python": "3.11.7",
    "torch": "2.13.0",
    "cpu": "Test CPU",
    "cpu_count": 2,
    "threads": 2,
    "memory_bytes": 8 * 2**30,
    "gpus": [],
}
T4 = {
    **CPU,
    "device": "cuda",
    "cuda": "13.0",
    "driver": "580.126.09",
    "gpus": [{"name": "Tesla T4", "memory_bytes": 15 * 2**30, "compute_capability": "7.5"}],
}


def measurement(**fields: Any) -> dict[str, Any]:
    """One measurement as a workload says it: 20 equal samples."""
    value = fields.pop("value", 0.2)
    return {
        "name": "matmul",
        "params": {"dtype": "fp32", "m": 2048, "n": 2048, "k": 2048, "device": "cpu"},
        "unit": "TFLOP/s",
        "value": value,
        "median": value,
        "p5": value,
        "p95": value,
        "n": 20,
        "samples": [value] * 20,
        "stable": True,
        "note": "",
        "flops": 2.0 * 2048**3,
        "bytes": 3.0 * 2048**2 * 4,
        "gpu": None,
        **fields,
    }


def document(**fields: Any) -> dict[str, Any]:
    """A whole report as JSON has it."""
    return {
        "schema": "cloudrun.report/v1",
        "id": "atestreport2",
        "run": {"id": "atestreport2", "workload": "all", "profile": "quick", "target": "auto"},
        "created": "2026-11-24T08:12:51.204Z",
        "provenance": {"cloudrun": "0.1.0", "workload_sha256": "0" * 64, "argv": ["cloudrun"]},
        "machine": {"provider": "local"},
        "environment": CPU,
        "checks": [{"name": "torch", "status": "pass", "detail": "torch 2.13.0"}],
        "measurements": [measurement()],
        "timeline": [
            {
                "phase": "run",
                "started": "2026-11-24T08:12:52.000Z",
                "seconds": 30.0,
                "predicted_seconds": 40.0,
                "usd": 0.0,
            }
        ],
        "cost": {"usd": 0.0, "predicted_usd": 0.0, "basis": "free"},
        "outcome": "passed",
        "notes": [],
        **fields,
    }


def report(**fields: Any) -> Report:
    """A whole report."""
    return msgspec.convert(document(**fields), Report)
