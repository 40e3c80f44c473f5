"""The tests that this folder's README names are there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_test_that_the_readme_names_is_there() -> None:
    named = re.findall(r"`([\w./]+\.py)::(test_\w+)`", (HERE / "README.md").read_text())
    assert len(named) > 40
    texts = {path: (HERE / "engine" / path).read_text() for path, _ in named}
    assert not [
        f"{path}::{name}" for path, name in named if not re.search(rf"^(async )?def {name}\(", texts[path], re.M)
    ]
