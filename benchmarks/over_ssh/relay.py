"""A TCP relay that delays: each byte comes out half of DELAY seconds after it went in.

    python relay.py PORT DELAY

Relays a port of its own, which it prints, to PORT. Nothing waits for what went
before it: bytes stand in line with the moment at which they are due, so that
the bandwidth stays. A connection takes a round trip to open, as it would on a
long way, with one difference that no relay can help: the client's `connect`
returns at once, and the round trip is spent after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

HOST = "127.0.0.1"
_CHUNK = 2**18
# What may be under way: more than a round trip of 50 ms at 10 Gbit/s.
_MOST_CHUNKS = 512


async def main(port: int, delay_s: float) -> None:
    """Serve until the process is ended."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _relay(reader, writer, port, delay_s)

    server = await asyncio.start_server(relay, HOST, 0, limit=_CHUNK, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, delay_s: float
) -> None:
    there: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_CHUNKS)
    back: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_CHUNKS)
    half = delay_s / 2
    # The client may speak at once: what it says is on its way while the server is called.
    filling = asyncio.create_task(_fill(reader, there, half))
    # Three messages open a TCP connection, the last of them with the first bytes.
    await asyncio.sleep(3 * half)
    far_reader, far_writer = await asyncio.open_connection(HOST, port, limit=_CHUNK)
    with contextlib.suppress(OSError):
        await asyncio.gather(
            filling, _drain(there, far_writer), _fill(far_reader, back, half), _drain(back, writer)
        )
    for end in (writer, far_writer):
        end.close()


async def _fill(
    reader: asyncio.StreamReader, queue: asyncio.Queue[tuple[float, bytes]], half: float
) -> None:
    """Put what comes in line; nothing stands for the end."""
    clock = asyncio.get_running_loop().time
    data = b"-"
    while data:
        try:
            data = await reader.read(_CHUNK)
        except OSError:
            data = b""
        await queue.put((clock() + half, data))


async def _drain(queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    """Give what is due."""
    clock = asyncio.get_running_loop().time
    while True:
        due, data = await queue.get()
        if due > clock():
            await asyncio.sleep(due - clock())
        if not data:
            writer.write_eof()
            return
        writer.write(data)
        await writer.drain()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
