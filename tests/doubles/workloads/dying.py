"""A workload that is killed in the middle of a line."""

import json
import os
import signal
import sys

print(json.dumps({"event": "check", "name": "torch", "status": "pass", "detail": "fine"}))
print('{"event": "check", "name": "half', end="", flush=True)
print("the last word on stderr", file=sys.stderr, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
