"""What the documents say can be typed, opened and seen."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from cloudrun.cli import output
from cloudrun.cli.app import command

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
PAGES = READMES + sorted((ROOT / "docs").glob("*.md"))
PICTURE = ROOT / "docs" / "report.svg"

_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[/\\])(cloudrun [^;&|\n]+)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_OWN_PATH = re.compile(r"(?<![A-Za-z0-9_.])/(?:home|root|tmp|work|Users)/|[A-Z]:\\Users")


def code(page: Path) -> list[str]:
    """The lines of a page's code blocks, without their comments."""
    lines = "".join(_BLOCK.findall(page.read_text(encoding="utf-8"))).splitlines()
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line) for line in lines) if line]


def commands(page: Path) -> list[str]:
    """The command lines of cloudrun in a page's code blocks and between its backticks."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    spans = [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", text)]
    return [line.strip() for part in code(page) + spans for line in _COMMAND.findall(part)]


EXAMPLES = list(
    dict.fromkeys((page, line) for page in PAGES if page.exists() for line in commands(page))
)


@pytest.mark.parametrize(
    ("page", "line"), EXAMPLES, ids=[f"{page.name}: {line}" for page, line in EXAMPLES]
)
def test_a_command_of_the_documents_exists(page: Path, line: str) -> None:
    current: click.Command = command
    context = click.Context(current, info_name="cloudrun", obj=output.Options())
    words = shlex.split(line)[1:]
    while True:
        values, words, given = current.make_parser(context).parse_args(words)
        for option in given:
            value = values.get(option.name or "")
            # An option that may stand alone has no value then.
            if isinstance(option, click.Option) and isinstance(value, str | list | tuple):
                option.type_cast_value(context, value)
        if not (isinstance(current, click.Group) and words):
            break
        name, *words = words
        found = current.get_command(context, name)
        assert found is not None, f"{page.name}: there is no command '{name}'"
        current, context = found, click.Context(found, info_name=name, parent=context)
    assert not words


def test_both_readmes_have_the_same_commands() -> None:
    english, chinese = map(code, READMES)
    assert english == chinese
    assert sum("-m venv" in line for line in english) == 3
    assert sum("cloudrun" in line for line in english) > 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = _LINK.findall(page.read_text(encoding="utf-8"))
    files = [link.partition("#")[0] for link in links if not re.match(r"https?://|#", link)]
    missing = [file for file in files if not (page.parent / file).is_file()]
    assert not missing


@pytest.mark.parametrize("page", [*PAGES, PICTURE], ids=lambda page: page.name)
def test_no_path_of_the_makers_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    assert not _OWN_PATH.search(text)


def test_the_picture_fetches_nothing() -> None:
    picture = PICTURE.read_text(encoding="utf-8")
    assert not re.search(r"@font-face|@import|href=|<image|<script|url\((?!#)", picture)
