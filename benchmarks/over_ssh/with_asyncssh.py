"""asyncssh: push a script, run it, fetch its result, over one connection.

    python with_asyncssh.py SCRIPT FOLDER RESULT

FOLDER is the machine's, RESULT ours.
"""

import asyncio
import json
import os
import sys

import asyncssh

PLACE = json.loads(os.environ["BENCH_PLACE"])


async def main(script: str, folder: str, result: str) -> None:
    """Do it by scp, its quickest way to move a file."""
    async with asyncssh.connect(
        PLACE["host"],
        PLACE["port"],
        username=PLACE["user"],
        client_keys=[PLACE["key"]],
        known_hosts=PLACE["known_hosts"],
    ) as connection:
        await asyncssh.scp(script, (connection, f"{folder}/script.py"))
        await connection.run(f"cd {folder} && python3 script.py", check=True)
        await asyncssh.scp((connection, f"{folder}/results/out.bin"), result)


asyncio.run(main(*sys.argv[1:]))
