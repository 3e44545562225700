"""Links are exactly of the forms that Colab documents, or that others' buttons have."""

from __future__ import annotations

import pytest

from cloudrun.errors import WrongUsage
from cloudrun.notebooks import links

COLAB = "https://colab.research.google.com"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


@pytest.mark.parametrize(
    ("text", "link"),
    [
        # The document's own example, googlecolab/colabtools notebooks/colab-github-demo.ipynb.
        (
            "googlecolab/colabtools/notebooks/colab-github-demo.ipynb",
            "/github/googlecolab/colabtools/blob/main/notebooks/colab-github-demo.ipynb",
        ),
        ("googlecolab/colabtools", "/github/googlecolab/colabtools/"),
        ("googlecolab/colabtools@main", "/github/googlecolab/colabtools/blob/main"),
        ("me/x/a.ipynb@v1.2", "/github/me/x/blob/v1.2/a.ipynb"),
        ("me/x/a.ipynb@feature/y", "/github/me/x/blob/feature/y/a.ipynb"),
        ("me/.github/a.ipynb", "/github/me/.github/blob/main/a.ipynb"),
        ("me/x/a b/c(1)#?.ipynb", "/github/me/x/blob/main/a%20b/c%281%29%23%3F.ipynb"),
        ("me/x/课程.ipynb", "/github/me/x/blob/main/%E8%AF%BE%E7%A8%8B.ipynb"),
    ],
)
def test_github(text: str, link: str) -> None:
    assert links.github(text) == COLAB + link


@pytest.mark.parametrize(
    "text",
    [
        "me", "me/", "/x", "me/x/", "me/x/a.py", "me/x/../y/a.ipynb", "me/..", "-me/x",
        "https://github.com/me/x", "me/x/a.ipynb@", "me/x@a b", "me/x y/a.ipynb", "",
    ],
)  # fmt: skip
def test_what_is_no_place_on_github(text: str) -> None:
    with pytest.raises(WrongUsage) as error:
        links.github(text)
    assert "--github me/course/" in error.value.try_this


def test_gist() -> None:
    assert links.gist("me", "0a1b", "x.ipynb") == f"{COLAB}/gist/me/0a1b/x.ipynb"


def test_public() -> None:
    link = links.public("https://example.org/a b.ipynb?x=1&y=2#z".replace(" ", "%20"))
    assert link == (
        f"{COLAB}/#fileId=https%3A%2F%2Fexample.org%2Fa%2520b.ipynb%3Fx%3D1%26y%3D2%23z"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/x.ipynb", "example.org/x.ipynb", "https://localhost/x", "https://box/x",
        "https://127.0.0.1/x", "https://192.168.0.2/x", "https://10.0.0.1/x", "https://[::1]/x",
        "https://nas.local/x", "https://", "https://[x/", "https://example.org/a b", "file:///x",
        "https://me:word@example.org/x", "https://token@example.org/x", "https://example.org/\x1b",
    ],
)  # fmt: skip
def test_what_colab_cannot_fetch_or_must_not_tell(url: str) -> None:
    with pytest.raises(WrongUsage):
        links.public(url)


def test_badges() -> None:
    assert links.markdown("L") == f"[![Open In Colab]({BADGE})](L)"
    assert links.html('L?a&"') == (
        f'<a href="L?a&amp;&quot;"><img src="{BADGE}" alt="Open In Colab"/></a>'
    )


def test_upload() -> None:
    assert f"{COLAB}/#upload=true" == links.UPLOAD
