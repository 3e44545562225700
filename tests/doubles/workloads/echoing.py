"""A workload that says which arguments it was given."""

import json
import sys

import good  # noqa: F401 - its lines come first

print(json.dumps({"event": "note", "text": " ".join(sys.argv[1:])}))
