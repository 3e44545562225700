from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun import settings
from cloudrun.errors import BadSettings


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_project_goes_over_the_user_key_by_key(home: Path) -> None:
    user = write(home / "config.toml", 'store = "/a"\n[launch]\nprofile = "full"\nttl = "1h"\n')
    project = write(Path("cloudrun.toml"), '[launch]\nprofile = "quick"\n').absolute()
    found = {setting.key: (setting.value, setting.source) for setting in settings.read()}
    assert found == {
        "store": ("/a", user),
        "launch.profile": ("quick", project),
        "launch.ttl": ("1h", user),
    }


def test_a_project_file_counts_in_the_folders_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    project = write(Path("cloudrun.toml"), 'store = "x"\n').absolute()
    (Path.cwd() / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir("deep/er")
    assert settings.project_file() == project


def test_no_files_no_settings() -> None:
    assert settings.read() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('stroe = "x"', "Did you mean 'store'"),
        ('[launch]\nprofil = "quick"', "Did you mean 'launch.profile'"),
        ("[lunch]\n", "no setting 'lunch'"),
        ('[launch]\nprofile = "quik"', "Did you mean 'quick'"),
        ('[launch]\nworkload = "smok"', "Did you mean 'smoke'"),
        ('[launch]\nttl = "10"', "is not a duration"),
        ("[launch]\nttl = 45", "Did you mean '45m'"),
        ("[launch]\nttl = true", 'Write it like ttl = "45m"'),
        ('[launch]\nprofile = ["full"]', "Did you mean 'full'"),
        ('[launch]\nmax_price = "0.75"', 'launch.max_price = "0.75" in'),
        ("[launch]\nmax_price = true", "a number, without quotes"),
        ("[launch]\nmax_cost = nan", "a number, without quotes"),
        ("[launch]\ngpu = 4", 'Write it like gpu = "T4"'),
        ("store = 3", 'Write it like store = "~/reports"'),
        ('launch = "quick"', "Write [launch] on a line of its own"),
        ("[[launch]]", "Write [launch] on a line of its own"),
        ("store = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_name_with_the_remedy(
    home: Path, text: str, expected: str
) -> None:
    path = write(home / "config.toml", text)
    with pytest.raises(BadSettings) as caught:
        settings.read()
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)
    assert "`" not in str(caught.value)
    assert "$" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadSettings, match="cannot be read"):
        settings.read()


def test_without_a_home_the_platforms_folders_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLOUDRUN_HOME")
    found = settings.places()
    assert all("cloudrun" in str(path) for path in (found.settings, found.state, found.store))
    assert found.store.name == "reports"
