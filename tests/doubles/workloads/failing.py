"""A workload whose one check fails."""

import json

import good  # noqa: F401 - its lines come first

print(json.dumps({"event": "check", "name": "matmul", "status": "fail", "detail": "wrong"}))
