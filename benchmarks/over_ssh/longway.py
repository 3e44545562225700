"""A long way to a server on this computer: a network device that delays and mirrors.

    python longway.py DELAY

Makes a network with two addresses and prints them: `near` is this computer's
own, where the server listens; `far` is whom the clients call. What goes to
`far` comes back half of DELAY seconds later as from `far` to `near`, and the
answers likewise. So everything of TCP is as on a long way: opening a
connection, slow start, windows. Linux, root and /dev/net/tun only; where they
are missing, relay.py does what a relay can.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import time

DEVICE = "/dev/net/tun"
# From <linux/if_tun.h>.
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
# Large, so that copying costs little; small, so that slow start is slow.
_MTU = 9000


def is_possible() -> bool:
    """Whether such a network can be made here."""
    return sys.platform == "linux" and os.geteuid() == 0 and os.access(DEVICE, os.W_OK)


def main(delay_s: float) -> None:
    """Serve until the process is ended; the network goes with it."""
    device = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
    asked = struct.pack("16sH", b"benchway%d", _IFF_TUN | _IFF_NO_PI)
    name = fcntl.ioctl(device, _TUNSETIFF, asked.ljust(40, b"\0"))[:16].rstrip(b"\0").decode()
    number = name.removeprefix("benchway")
    near, far = f"10.98.{number}.1", f"10.98.{number}.2"
    _ip("address", "add", f"{near}/24", "dev", name)
    _ip("link", "set", name, "mtu", str(_MTU), "txqueuelen", "10000", "up")
    print(near, far, flush=True)
    _mirror(device, delay_s / 2)


def _mirror(device: int, half: float) -> None:
    line: collections.deque[tuple[float, bytes]] = collections.deque()
    while True:
        wait = max(0.0, line[0][0] - time.monotonic()) if line else None
        select.select([device], [], [], wait)
        with contextlib.suppress(BlockingIOError):
            # Not more at once than keeps the others on time.
            for _ in range(64):
                packet = os.read(device, 2**16)
                if packet[0] >> 4 == 4:
                    line.append((time.monotonic() + half, _turned(packet)))
        while line and line[0][0] <= time.monotonic():
            os.write(device, line.popleft()[1])


def _turned(packet: bytes) -> bytes:
    """The packet with its two addresses in each other's place; its checksums stay right."""
    return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
