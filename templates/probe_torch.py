"""Whether this Python's torch computes: one small matrix product, on the device that is wanted.

Argument: `cuda`, or `auto` for the best that torch has. Prints one line of JSON.
"""

import json
import sys


def main():
    """Say `ok`, or why not."""
    try:
        compute(sys.argv[1])
    except BaseException as error:  # noqa: BLE001 - whatever goes wrong is the answer
        print(json.dumps({"why": "%s: %s" % (type(error).__name__, error)}))
    else:
        print(json.dumps({"ok": True}))


def compute(wanted):
    """Multiply on the device and on the CPU. Small whole numbers: both must be exact."""
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    here = torch.arange(4096, dtype=torch.float32).remainder(7).reshape(64, 64)
    there = here.to(wanted)
    if not torch.equal(torch.mm(there, there).cpu(), torch.mm(here, here)):
        raise RuntimeError("a matrix product on the device differs from the CPU's")


main()
