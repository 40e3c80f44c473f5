"""The tables of the ledger and how an older file becomes this one.

`PRAGMA user_version` numbers the schema; `PRAGMA application_id` says that a file is ours. A migration is a list of
statements, run in one transaction. Metrics are packed: one `tail` row a log call holds all its values as float64 (SQLite
would turn NaN into NULL), `series` keeps each key's summary up to date, so that a run table never reads points.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x57424C47  # "WBLG"

FIRST: Final = (
    """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        created REAL NOT NULL,              -- seconds since the epoch, as all times here
        folder TEXT NOT NULL,               -- absolute; profile, log, checkpoints, result
        parent TEXT,                        -- uid of the run whose result this one started from
        state TEXT NOT NULL,                -- of its newest training job
        cause TEXT NOT NULL DEFAULT '',     -- why it failed, in a word or two: OOM at 12, gated, disk
        step INTEGER NOT NULL DEFAULT 0,    -- optimizer steps done
        steps INTEGER,                      -- to do; NULL until known
        ends REAL,                          -- when it is expected to end
        result_kind TEXT,                   -- adapter or model
        result_path TEXT,                   -- relative to folder
        predicted_mib REAL,
        measured_mib REAL,
        note TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX run_by_name ON run (name)",
    """
    CREATE TABLE run_document (             -- what is large and read one run at a time
        run INTEGER PRIMARY KEY REFERENCES run (id) ON DELETE CASCADE,
        profile TEXT NOT NULL,              -- resolved, TOML
        environment TEXT NOT NULL DEFAULT '{}',
        fingerprints TEXT NOT NULL DEFAULT '{}'
    )
    """,
    """
    CREATE TABLE setting (                  -- the profile flattened, to filter and to diff by
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,                -- JSON
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX setting_by_value ON setting (key, value)",
    """
    CREATE TABLE job (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,                 -- train, evaluate, export
        run INTEGER REFERENCES run (id) ON DELETE CASCADE,
        argument TEXT NOT NULL,             -- JSON
        state TEXT NOT NULL,
        cause TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '',   -- what happened, why, what to do
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        heartbeat REAL,
        host TEXT, boot_id TEXT, pid_namespace TEXT, pid INTEGER, pid_started INTEGER,
        done INTEGER NOT NULL DEFAULT 0,    -- progress of whatever the job counts
        total INTEGER,
        doing TEXT NOT NULL DEFAULT '',     -- and what that is: "loading the model"
        log TEXT NOT NULL                   -- absolute path of its output
    )
    """,
    "CREATE INDEX job_by_run ON job (run, id)",
    "CREATE TABLE key (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    # keys: comma-separated key ids, in packing order
    "CREATE TABLE keyset (id INTEGER PRIMARY KEY, keys TEXT NOT NULL UNIQUE)",
    """
    CREATE TABLE tail (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        keyset INTEGER NOT NULL REFERENCES keyset (id),
        step INTEGER NOT NULL,
        time REAL NOT NULL,
        vals BLOB NOT NULL                  -- little-endian float64, one a key of the keyset
    )
    """,
    "CREATE UNIQUE INDEX tail_by_step ON tail (run, keyset, step)",
    """
    CREATE TABLE series (
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        key INTEGER NOT NULL REFERENCES key (id),
        n INTEGER NOT NULL,                 -- points, gaps included
        gaps INTEGER NOT NULL,              -- of them NaN or infinite
        last REAL, last_step INTEGER NOT NULL,
        min REAL, min_step INTEGER,
        max REAL, max_step INTEGER,
        PRIMARY KEY (run, key)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX series_by_min ON series (key, min)",
    "CREATE INDEX series_by_max ON series (key, max)",
    """
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        run INTEGER REFERENCES run (id) ON DELETE CASCADE,
        job INTEGER REFERENCES job (id) ON DELETE CASCADE,
        time REAL NOT NULL,
        step INTEGER,
        level TEXT NOT NULL,                -- info, warning, error
        kind TEXT NOT NULL,                 -- checkpoint, sample, gradient, order, ...
        text TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT '{}'
    )
    """,
    "CREATE INDEX event_by_run ON event (run, id)",
    """
    CREATE TABLE orders (                   -- from people to a run's job
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        verb TEXT NOT NULL,                 -- pause, continue, checkpoint, stop, evaluate, rate
        value REAL,
        created REAL NOT NULL,
        step INTEGER,                       -- at which it took effect; NULL until acknowledged
        answered REAL,
        answer TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX orders_by_run ON orders (run, id)",
    """
    CREATE TABLE checkpoint (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        time REAL NOT NULL,
        path TEXT NOT NULL,                 -- relative to the run's folder
        bytes INTEGER NOT NULL,
        validation REAL,
        best INTEGER NOT NULL DEFAULT 0,
        UNIQUE (run, step)
    )
    """,
    """
    CREATE TABLE evaluation (
        id INTEGER PRIMARY KEY,
        uid TEXT NOT NULL UNIQUE,
        run INTEGER REFERENCES run (id) ON DELETE CASCADE,   -- NULL for a base model
        model TEXT NOT NULL,                -- fingerprint of what was evaluated
        model_name TEXT NOT NULL,
        suite TEXT NOT NULL,
        suite_fingerprint TEXT NOT NULL,
        conditions TEXT NOT NULL,           -- fingerprint of template, generation, dtype: equal where comparable
        created REAL NOT NULL,
        finished REAL,                      -- NULL while items are being added
        n INTEGER NOT NULL DEFAULT 0,
        scores TEXT NOT NULL DEFAULT '{}'
    )
    """,
    # Two runs may end in the same bits: each has its own evaluations, and a base model (run NULL) has one.
    "CREATE UNIQUE INDEX evaluation_once ON evaluation (coalesce(run, 0), model, suite_fingerprint, conditions)",
    "CREATE INDEX evaluation_by_run ON evaluation (run)",
    "CREATE INDEX evaluation_by_suite ON evaluation (suite_fingerprint, conditions)",
    """
    CREATE TABLE item (
        evaluation INTEGER NOT NULL REFERENCES evaluation (id) ON DELETE CASCADE,
        item TEXT NOT NULL,                 -- id of the suite's item
        variant INTEGER NOT NULL,           -- 0 is the item itself, then its paraphrases
        prompt TEXT NOT NULL,
        answer TEXT NOT NULL,               -- what the model wrote
        extracted TEXT,                     -- what was read out of it; NULL is unparsed
        gold TEXT,
        correct REAL,                       -- 1, 0 or a share; NULL where there is no right answer
        detail TEXT NOT NULL DEFAULT '{}',  -- log-likelihoods, tokens, milliseconds
        PRIMARY KEY (evaluation, item, variant)
    ) WITHOUT ROWID
    """,
)

QUEUE: Final = (
    "ALTER TABLE job ADD COLUMN turn INTEGER",  # place in the queue, the lowest is next; NULL where it was started at once
    # JSON, GPUs by UUID or cpu: while queued those that it would take, then those that it works on
    "ALTER TABLE job ADD COLUMN places TEXT NOT NULL DEFAULT '[]'",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (FIRST, QUEUE)
"""MIGRATIONS[n] takes a file from user_version n to n + 1."""

VERSION: Final = len(MIGRATIONS)
