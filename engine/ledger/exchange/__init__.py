"""Runs in and out of the ledger: other people's files read into it, its own runs written to files that others read.

In: `sources.find(path)` says what is there and gives a reader a run; `Reader.read()` gives an `Imported` (`imported.py`), and
`adding.add` puts it into a ledger, once however often it is given. The formats: `tensorboard`, `wandb`, `trackio`, `trainer`,
`plain`. Out: `exporting.write`, with `tables` (CSV and Parquet), `documents` (JSON), `portable` (a ledger of its own); these come back too.
"""
