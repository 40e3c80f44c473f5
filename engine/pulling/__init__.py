"""Fetching another machine's ledger, and results that are wanted here, over ssh.

`far` is the connection: it runs `there`, a script of its own that needs nothing but Python on the other machine, and receives files.
`fetching` says what is fetched and where it goes.
"""
