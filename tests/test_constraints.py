"""The pinned versions: public ones, of everything that is named, and in the ranges that are promised."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]


def pinned() -> dict[str, Version]:
    """Name to version, as constraints.txt has them."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", line) for line in lines), "public versions only"
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_what_is_named_is_pinned_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = map(Requirement, chain(project["dependencies"], *project["optional-dependencies"].values()))
    versions = pinned()
    for requirement in named:
        version = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement


def test_what_a_gpu_needs_is_left_to_torch() -> None:
    assert not [name for name in pinned() if name.startswith(("nvidia-", "cuda-", "triton")) and name != "nvidia-ml-py"]


def test_the_makefile_installs_the_torch_that_is_pinned() -> None:
    assert f"TORCH := torch=={pinned()['torch']}\n" in (ROOT / "Makefile").read_text()
