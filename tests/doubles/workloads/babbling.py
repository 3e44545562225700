"""A workload with nonsense between its lines."""

import sys

sys.stdout.write("not JSON at all\n")
sys.stdout.write('{"event": "measurement", "name": "matmul", "value": -1}\n')
sys.stdout.write('{"event": "measurement", "value": NaN}\n')
sys.stdout.buffer.write(b"\xff\xfe\n") if not sys.stdout.flush() else None
sys.stdout.flush()
import good  # noqa: E402, F401 - its lines come last
