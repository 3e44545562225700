"""A workload that finds everything in order."""

import json

ENVIRONMENT = {
    "device": "cpu",
    "os": "Test",
    "python": "3.11",
    "torch": "2.13.0",
    "cpu": "Test CPU",
    "gpus": [],
}
for line in (
    {"event": "environment", **ENVIRONMENT},
    {"event": "check", "name": "torch", "status": "pass", "detail": "fine", "remedy": ""},
    {"event": "finished"},
):
    print(json.dumps(line), flush=True)
