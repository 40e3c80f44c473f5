"""What is asked before rows can be looked at: which data, whether to download them, which base model. Only in workers."""

from __future__ import annotations

from engine import profile as profiles
from engine.data import hub_source
from screens.data import suggestions
from screens.widgets.page import Page


async def source(page: Page, before: str) -> str:
    """A path or the id of a dataset, typed over `before`; empty where a person left."""
    known = await page.attempt(lambda: suggestions.sources(page.session.ledger))
    return (await page.prompt("open", before, suggestions=known or []) or "").strip()


async def is_here(page: Page, typed: str) -> bool:
    """Whether the data are on this machine; a dataset of the hub is downloaded, if a person agrees."""
    data = profiles.Data(source=typed)
    if not hub_source.is_hub_id(data.source) or hub_source.copy_path(data).is_file():
        return True
    if not await page.ask(f"{data.source} is no file here. Download it from the hub?"):
        return False
    page.say(f"Downloading {data.source} ...")
    return await page.attempt(lambda: hub_source.download_apart(data, quiet=True)) is not None


async def base(page: Page, now: str) -> str:
    """A base model, typed over the one that stands there `now`, else the newest run's; empty where a person left."""
    known = await page.attempt(lambda: suggestions.bases(page.session.ledger)) or []
    return (await page.prompt("base model", now or next(iter(known), ""), suggestions=known) or "").strip()
