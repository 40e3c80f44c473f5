"""How a command is given a profile: a file or a name that ships, and values to change in it."""

from __future__ import annotations

import argparse


def add_profile(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add PROFILE, which may be left out where it is `optional`, and --set.

    They become `options.profile` and `options.set`, as `profile_file.find` and `read` take them.
    """
    parser.add_argument(
        "profile",
        metavar="PROFILE",
        nargs="?" if optional else None,
        help="a TOML file, or the name of a profile that ships",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value, such as training.epochs=2; may be given several times",
    )
