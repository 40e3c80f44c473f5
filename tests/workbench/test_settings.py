"""The user's settings survive a round, keep comments, and name the line of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import Problem
from screens.session import View
from workbench import settings
from workbench.settings import Settings


def test_without_a_file_the_defaults(home: Path) -> None:
    assert settings.load() == Settings(runs_folder=home / "runs")


def test_what_is_saved_is_loaded(home: Path) -> None:
    chosen = Settings(runs_folder=home / "big disk", theme="nord", keymap={"runs.pause": "p"}, seen_places=True)
    settings.save(chosen)
    assert settings.load() == chosen
    settings.save(Settings())
    assert settings.load() == Settings()


def test_saving_keeps_the_users_comments(home: Path) -> None:
    home.mkdir()
    path = home / "settings.toml"
    path.write_text('# my box\ntheme = "nord"  # calm\n')
    settings.save(Settings(theme="dracula", seen_places=True))
    text = path.read_text()
    assert "# my box" in text
    assert "# calm" in text
    assert settings.load().theme == "dracula"


def test_runs_folder_is_relative_to_the_file(home: Path) -> None:
    home.mkdir()
    (home / "settings.toml").write_text('runs_folder = "../scratch"\n')
    assert settings.load().runs_folder == home.parent / "scratch"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('theme = "nord"\nthem = "x"\n', r"settings\.toml:2: unknown setting them - did you mean theme\?"),
        (
            'theme = "nord"\n\nseen_places = "yes"\n',
            r"settings\.toml:3: seen_places: found 'yes'; should be true or false",
        ),
        ('theme = "nord"\n[keymap]\n"runs.pause" = 3\n', r"settings\.toml:2: keymap"),
        ("runs_folder = 7\n", r"settings\.toml:1: runs_folder: found 7; should be text"),
        ("theme = \n", r"settings\.toml:1: this is not TOML"),
    ],
)
def test_a_mistake_is_named_with_its_line(home: Path, text: str, told: str) -> None:
    home.mkdir()
    (home / "settings.toml").write_text(text)
    with pytest.raises(Problem, match=told):
        settings.load()
    assert (home / "settings.toml").read_text() == text


def test_how_runs_are_looked_at_is_kept_as_far_as_it_is_not_usual(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    looked = View(columns=("best", "method.rank"), sort="best", group="sweep")
    settings.save(Settings(runs=looked), path)
    assert "descending" not in path.read_text()
    assert settings.load(path).runs == looked
    settings.save(Settings(), path)
    assert settings.load(path).runs == View()


@pytest.mark.parametrize("table", ["runs = 3", "[runs]\nsort = 3", "[runs]\ncolumns = [1]", "[runs]\nsorted = 'best'"])
def test_a_look_at_runs_that_is_none_is_refused_with_its_line(tmp_path: Path, table: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(table)
    with pytest.raises(Problem, match=r"settings.toml:1: runs: found"):
        settings.load(path)
