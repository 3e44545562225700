"""What a machine does first: cloud-init's user data, for the clouds whose images read it.

https://docs.cloud-init.io/en/latest/reference/modules.html
"""

from __future__ import annotations

import json
from datetime import datetime

from cloudrun.hosts import scripts
from cloudrun.providers.keys import Keys

# They fight for the lock of apt just when a machine is young.
_APT = "apt-daily.timer apt-daily-upgrade.timer apt-daily.service apt-daily-upgrade.service"


def user_data(keys: Keys, deadline: str, longest_s: int) -> str:
    """The user data: the power-off timer first, then the keys.

    JSON is YAML, and needs no care with quotes and indents.

    Args:
        keys: The machine's own host key, and the public key that opens it.
        deadline: When the machine powers itself off (RFC 3339, UTC).
        longest_s: After how many seconds it does so where its clock is wrong.
    """
    config = {
        # Run before anything else, at each boot.
        "bootcmd": [["sh", "-c", timer(deadline, longest_s)], ["sh", "-c", _without_apt()]],
        "package_update": False,
        "package_upgrade": False,
        "ssh_deletekeys": True,
        "ssh_keys": {
            "ed25519_private": keys.host_private,
            "ed25519_public": keys.host_public,
        },
        "ssh_authorized_keys": [keys.public],
    }
    return "#cloud-config\n" + json.dumps(config, indent=1) + "\n"


def timer(deadline: str, longest_s: int) -> str:
    """The script that powers the machine off at its deadline; see `user_data`."""
    moment = int(datetime.fromisoformat(deadline).timestamp())
    return scripts.render("deadline.sh", deadline=moment, longest=longest_s)


def _without_apt() -> str:
    return f"systemctl mask --now --no-block {_APT} unattended-upgrades.service || true"
