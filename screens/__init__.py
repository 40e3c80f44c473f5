"""Floor 2: what a person sees, a package per screen.

A screen is a `widgets.page.Page`: its `reading` makes one frozen snapshot of the ledger in a thread, its `screen` shows it.
Screens do not know each other; they post `messages`, which the application hands on. What keys do is in `commands`.
"""
