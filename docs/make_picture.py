"""Draw a terminal's output, colours and all, as an SVG that fetches nothing from anywhere.

    script -qec "cloudrun launch" launch.txt        # in a terminal of 82 columns
    python docs/make_picture.py launch.txt docs/report.svg

With one argument the text is read from standard input.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 82
FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def main() -> int:
    """Draw; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("text", nargs="?", type=Path, help="the output [default: stdin]")
    parser.add_argument("svg", type=Path, help="the picture to write")
    options = parser.parse_args()
    # As bytes, since reading text would take a carriage return for the end of a line.
    data = options.text.read_bytes() if options.text else sys.stdin.buffer.read()
    options.svg.write_text(draw(screen(data.decode())), encoding="utf-8", newline="\n")
    return 0


def screen(text: str) -> str:
    """What is left on the screen when all is over: the moving line has been erased."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if "\x1b[1A" in line and lines:
            lines.pop()
        # `script` adds a line at each end.
        if not line.startswith(("Script started", "Script done")):
            lines.append(line.rsplit("\x1b[2K", 1)[-1])
    return "\n".join(lines).strip("\n")


def draw(text: str) -> str:
    """The text in a terminal's window, in a font that the reader's machine has."""
    console = Console(width=WIDTH, record=True, file=io.StringIO())
    console.print(Text.from_ansi(text), end="\n\n")
    svg = console.export_svg(title="cloudrun launch")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", FONTS)


if __name__ == "__main__":
    sys.exit(main())
