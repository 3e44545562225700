"""What the notebook services ask of their users; who uses one first is told, and asked, once."""

from __future__ import annotations

from collections.abc import Iterable

from cloudrun import settings

TERMS = {
    "colab": (
        "Google Colab lends free machines for work that somebody watches, one account a person. "
        "cloudrun calls Google's own client, takes one machine for an hour at most, and gives it "
        "back at once. Colab's rules: https://research.google.com/colaboratory/faq.html"
    ),
    "kaggle": (
        "Kaggle runs your code as a private notebook of your account, one account a person, out "
        "of your weekly hours; cloudrun calls Kaggle's own client, and deletes the notebook at "
        "the end. Kaggle's rules: https://www.kaggle.com/terms"
    ),
}


def not_agreed(services: Iterable[str]) -> list[str]:
    """Those of the services whose terms nobody has agreed to here."""
    asked = dict.fromkeys(name for name in services if name in TERMS)
    folder = settings.places().state / "terms"
    return [name for name in asked if not (folder / name).exists()]


def agree(service: str) -> None:
    """Note that the user knows a service's terms."""
    folder = settings.places().state / "terms"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / service).touch()
