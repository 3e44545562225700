"""Fabric: push a script, run it, fetch its result, over one connection.

    python with_fabric.py SCRIPT FOLDER RESULT

FOLDER is the machine's, RESULT ours.
"""

import json
import os
import sys

from fabric import Connection

PLACE = json.loads(os.environ["BENCH_PLACE"])

script, folder, result = sys.argv[1:]
with Connection(
    PLACE["host"], PLACE["user"], PLACE["port"], connect_kwargs={"key_filename": PLACE["key"]}
) as connection:
    connection.put(script, f"{folder}/script.py")
    connection.run(f"cd {folder} && python3 script.py", hide=True)
    connection.get(f"{folder}/results/out.bin", result)
