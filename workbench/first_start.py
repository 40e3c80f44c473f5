"""The first start: where things will be kept, on what kind of disk, and whether that is meant; and what an earlier machine left there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input

from engine.errors import Problem
from engine.ledger import beside_runs
from engine.storage import storage_of
from screens.widgets import figures
from screens.widgets.entry import Entry
from screens.widgets.line import Line
from screens.widgets.page import Page


class PlacesScreen(ModalScreen[Path]):
    """Shows the ledger and the runs folder and gives back the folder that was agreed to, once it is made and `keep` has run.

    Both happen in a thread: a busy disk can hold up a folder or a synced file for a minute, and an event loop that waits for it
    neither draws nor hears a key.
    """

    CSS = """
    PlacesScreen { background: $background; padding: 1 2; }
    PlacesScreen Line { margin-bottom: 1; }
    PlacesScreen Input { border: none; height: 1; padding: 0; margin-bottom: 1; background: $panel; }
    """

    def __init__(self, ledger: Path, runs_folder: Path, keep: Callable[[Path], None]) -> None:
        super().__init__()
        self._ledger = ledger
        self._runs = runs_folder
        self._keep = keep
        self._keeping = False

    def compose(self) -> ComposeResult:
        """Both places; the folder can be typed over."""
        yield Line(Content.styled("Workbench keeps what you do in two places.", "bold"))
        yield Line(_place("Ledger", "what was run and measured; megabytes", self._ledger))
        yield Line(
            _place("Runs", "checkpoints and results; gigabytes. Enter agrees, or type another folder:", self._runs),
            id="runs",
        )
        entry = Entry(str(self._runs), compact=True)
        entry.cursor_blink = False
        yield entry
        yield Line(id="trouble")
        yield Line(
            Content.assemble(
                ("enter", "bold $text-accent"),
                " agree   ",
                ("ctrl+q", "bold $text-accent"),
                " leave",
                ("   WORKBENCH_HOME moves both.", "$foreground-muted"),
            )
        )

    @on(Input.Changed)
    def _tell(self, event: Input.Changed) -> None:
        """What kind of disk that would be."""
        folder = Path(event.value).expanduser()
        if event.value and folder.is_absolute():
            self.query_one("#runs", Line).show(
                _place("Runs", "checkpoints and results; gigabytes. Enter agrees, or type another folder:", folder)
            )

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self._agree()

    def on_key(self, event: Key) -> None:
        """Enter agrees, and what is typed comes to the entry, also when nothing has the focus. The entry keeps its own keys to itself."""
        if event.key == "enter":
            event.stop()
            self._agree()
        elif self.focused is None:
            self.query_one(Entry).focus()

    @work(group="agree")
    async def _agree(self) -> None:
        """Only a folder that can be made."""
        typed = self.query_one(Entry).value.strip()
        folder = Path(typed).expanduser()
        if self._keeping:
            return
        if not typed or not folder.is_absolute():
            self._refuse("A folder is named from the root (/...) or from home (~/...).")
            return
        self._keeping = True
        self.query_one("#trouble", Line).show(f"Making {folder} ...")
        try:
            await asyncio.to_thread(self._make, folder)
        except OSError as error:
            self._refuse(f"{folder} cannot be made: {error.strerror}.")
        else:
            self.dismiss(folder)
        finally:
            self._keeping = False

    def _make(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keep(folder)

    def _refuse(self, why: str) -> None:
        self.query_one("#trouble", Line).show(Content.styled(f"✗ {why}", "$text-error"))


def _place(name: str, what: str, path: Path) -> Content:
    """A path, its disk, and what is wrong with that disk."""
    disk = storage_of(path)
    parts: list[tuple[str, str]] = [
        (f"{name}  ", "bold"),
        (f"{what}\n", "$foreground-muted"),
        (f"  {path}\n", "$text-accent"),
    ]
    parts.append((f"  {figures.size(disk.free)} free on {disk.mount} ({disk.kind})", ""))
    if disk.is_network:
        parts.append(("\n  ! a network disk: slower, and no place for the ledger", "$text-warning"))
    if disk.short_lived:
        parts.append((f"\n  ! {disk.short_lived}", "$text-warning"))
    return Content.assemble(*parts)


async def offer_copies(page: Page[Any]) -> None:
    """Where copies of a ledger lie beside the runs, ask on the page whether to bring their runs back. Only in a worker."""
    session = page.session
    found = await asyncio.to_thread(_copies, session.runs_folder)
    if not found or session.ledger.read_only:
        return
    paths, newest = found
    told = "A copy of a ledger lies" if len(paths) == 1 else f"{len(paths)} copies of ledgers lie"
    if not await page.ask(f"{told} beside the runs ({figures.clock(newest, time.time())}). Restore?"):
        page.say("Nothing was restored. To do it later: workbench ledger restore")
        return
    page.say("Restoring ...")
    try:
        merged = await asyncio.to_thread(beside_runs.restore, session.ledger, paths)
    except Problem as problem:
        page.complain(problem)
    else:
        page.say(f"{len(merged.added):,} run{'s' * (len(merged.added) != 1)} restored.")


def _copies(runs_folder: Path) -> tuple[list[Path], float] | None:
    """The copies there, and when the newest was made."""
    paths = beside_runs.found(runs_folder)
    return (paths, paths[0].stat().st_mtime) if paths else None
