"""Google's own `colab`, led to a Colab on the loopback: run with the Python that has it.

    python real_colab.py ADDRESS FOLDER [ARGUMENTS OF colab]

Only where it goes and who it is are replaced, and where a machine's files lie: FOLDER.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

address, folder = sys.argv[1:3]
del sys.argv[1:3]
with (Path(folder) / "calls").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\n")
fault = Path(folder, "fault").read_text() if Path(folder, "fault").exists() else ""

import requests  # noqa: E402
from colab_cli import auto_update, cli, client, common, runtime  # noqa: E402

auto_update.run_background_check = lambda: None
client.Prod.__init__.__defaults__ = (address, address)
if fault != "logged out":
    common.get_credentials = lambda *_args, **_more: requests.Session()
execute_code = runtime.ColabRuntime.execute_code


def elsewhere(self: runtime.ColabRuntime, code: str, *args: object, **more: object) -> object:
    """Run code whose /content is the machine's folder."""
    machine = next(
        path for path in Path(folder).glob("*/machine.json") if self.url in path.read_text()
    )
    return execute_code(self, code.replace("/content", f"{machine.parent}/content"), *args, **more)


runtime.ColabRuntime.execute_code = elsewhere
cli.main()
