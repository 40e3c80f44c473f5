"""The tables of the ledger and how an older file becomes this one.

`PRAGMA user_version` numbers the schema; `PRAGMA application_id` says that a file is ours. A migration is a list of
statements, run in one transaction. Metrics are packed: one `tail` row a log call holds all its values as float64 (SQLite
would turn NaN into NULL), `series` keeps each key's summary up to date, so that a run table never reads points. Rows that
have gathered in the tail are sealed: a `segment` holds the steps, sequence numbers and times of thousands of rows, `packed`
the values of one key in them.
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

CHANGED: Final = "UPDATE run SET changed = (SELECT max(changed) + 1 FROM run) WHERE id ="
"""Marks a run as changed (followed by its id): who looks again reads only runs with a `changed` above the last one seen."""

BROWSING: Final = (
    # What a copy of the ledger is told from another's by: a new ledger in the place of a lost one is another.
    "CREATE TABLE identity (uid TEXT NOT NULL)",
    "INSERT INTO identity VALUES (lower(hex(randomblob(4))))",
    """
    CREATE TABLE segment (                  -- steps rise; no two segments of a run's key set overlap
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        keyset INTEGER NOT NULL REFERENCES keyset (id),
        first_step INTEGER NOT NULL,
        last_step INTEGER NOT NULL,
        n INTEGER NOT NULL,                 -- rows
        last_seq INTEGER NOT NULL,          -- the newest: an increment reads segments that have newer rows than it knows
        first_seq INTEGER NOT NULL,         -- the oldest; `seqs` are counted from it, so that merging can move them
        steps BLOB NOT NULL,                -- these three as `engine.ledger.integers` packs them
        seqs BLOB NOT NULL,
        times BLOB NOT NULL                 -- milliseconds since the epoch
    )
    """,
    "CREATE UNIQUE INDEX segment_by_step ON segment (run, keyset, first_step)",
    """
    CREATE TABLE packed (
        id INTEGER PRIMARY KEY,
        segment INTEGER NOT NULL REFERENCES segment (id) ON DELETE CASCADE,
        key INTEGER NOT NULL REFERENCES key (id),
        vals BLOB NOT NULL                  -- little-endian float64, one a row of the segment
    )
    """,
    "CREATE UNIQUE INDEX packed_by_key ON packed (segment, key)",
    "DROP INDEX series_by_min",  # tables of runs are read whole and sorted in memory
    "DROP INDEX series_by_max",
    "ALTER TABLE series ADD COLUMN smoothed REAL",  # see `engine.ledger.packing.Totals`
    # One text a run: of 10,000 runs it is read and parsed in a tenth of the time of 600,000 rows.
    "ALTER TABLE run_document ADD COLUMN settings TEXT NOT NULL DEFAULT '{}'",  # JSON, the profile flattened
    """
    UPDATE run_document SET settings = (
        SELECT coalesce(json_group_object(s.key, json(s.value)), '{}') FROM setting s WHERE s.run = run_document.run
    )
    """,
    "DROP TABLE setting",
    """
    CREATE TABLE tag (
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        PRIMARY KEY (run, name)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE artifact (                 -- files that a run left: results, exports
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        kind TEXT NOT NULL,                 -- adapter, model, export
        path TEXT NOT NULL,                 -- relative to the run's folder, or absolute where it lies elsewhere
        bytes INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,          -- over its files' names and bytes
        created REAL NOT NULL,
        UNIQUE (run, path)
    )
    """,
    "ALTER TABLE run ADD COLUMN source TEXT NOT NULL DEFAULT ''",  # what it was imported from or watched at: tensorboard, ...
    "ALTER TABLE run ADD COLUMN sweep TEXT NOT NULL DEFAULT ''",  # runs that were started together to be held against each other
    "ALTER TABLE run ADD COLUMN gpu TEXT NOT NULL DEFAULT ''",  # what it was trained on: H200, 2x RTX 4090, cpu
    # Validation losses of runs in which this is equal may be compared: a hash over the validation rows as tokens (so the template
    # is in it) and the objective. Empty where it is not known.
    "ALTER TABLE run ADD COLUMN comparable TEXT NOT NULL DEFAULT ''",
    # What a person says of a run: `called`, note, tags, `chosen`, `archived`, `deleted`.
    "ALTER TABLE run ADD COLUMN called TEXT NOT NULL DEFAULT ''",  # `name` is that, unless an older run here is called so as well
    "UPDATE run SET called = name",
    "ALTER TABLE run ADD COLUMN chosen INTEGER NOT NULL DEFAULT 0",  # as the one that comparable ones are held against
    "ALTER TABLE run ADD COLUMN baseline INTEGER NOT NULL DEFAULT 0",  # of comparable ones that were chosen, the one chosen last
    "ALTER TABLE run ADD COLUMN archived REAL",
    "ALTER TABLE run ADD COLUMN deleted REAL",  # its files lie in the bin; NULL while they do not
    """
    CREATE TABLE said (                     -- when a person last said what, so that of two copies of a run the newer word counts
        run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
        what TEXT NOT NULL,                 -- called, note, tags, chosen, archived, deleted
        time REAL NOT NULL,
        PRIMARY KEY (run, what)
    ) WITHOUT ROWID
    """,
    "ALTER TABLE run ADD COLUMN changed INTEGER NOT NULL DEFAULT 0",
    "UPDATE run SET changed = id",
    "CREATE INDEX run_by_change ON run (changed)",
    f"CREATE TRIGGER run_new AFTER INSERT ON run BEGIN {CHANGED} NEW.id; END",
    """
    CREATE TRIGGER run_called AFTER INSERT ON run WHEN NEW.called = '' BEGIN
        UPDATE run SET called = NEW.name WHERE id = NEW.id;
    END
    """,
    f"""
    CREATE TRIGGER run_changed AFTER UPDATE OF uid, name, created, folder, parent, state, cause, step, steps, ends, result_kind,
        result_path, predicted_mib, measured_mib, note, source, sweep, gpu, comparable, baseline, archived, deleted ON run
    BEGIN {CHANGED} NEW.id; END
    """,
    f"CREATE TRIGGER document_changed AFTER UPDATE OF settings ON run_document BEGIN {CHANGED} NEW.run; END",
    f"CREATE TRIGGER tag_new AFTER INSERT ON tag BEGIN {CHANGED} NEW.run; END",
    f"CREATE TRIGGER tag_gone AFTER DELETE ON tag BEGIN {CHANGED} OLD.run; END",
    # The highest number must not be given twice: who has seen it would miss the second change.
    """
    CREATE TRIGGER run_gone AFTER DELETE ON run BEGIN
        UPDATE run SET changed = max(OLD.changed, (SELECT max(changed) FROM run)) + 1 WHERE id = (SELECT max(id) FROM run);
    END
    """,
    "CREATE INDEX job_by_state ON job (state)",  # those at work are few, and asked for at every look
    "CREATE INDEX event_by_job ON event (job)",  # deleting a run deletes its jobs, and theirs
)

MEASURED: Final = (
    """
    CREATE TABLE context (                  -- what CUDA holds of a GPU for a process that has no tensor, by what decides it
        uuid TEXT NOT NULL,                 -- of the GPU
        driver TEXT NOT NULL,
        torch TEXT NOT NULL,
        name TEXT NOT NULL,                 -- the GPU's, as the driver has it but without NVIDIA
        mib REAL NOT NULL,                  -- outside of what torch's allocator reserves, once kernels have run
        workspace_mib REAL NOT NULL,        -- inside of it: what cuBLAS keeps for the threads that go forward and backward
        measured REAL NOT NULL,
        PRIMARY KEY (uuid, driver, torch)
    ) WITHOUT ROWID
    """,
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (FIRST, QUEUE, BROWSING, MEASURED)
"""MIGRATIONS[n] takes a file from user_version n to n + 1."""

VERSION: Final = len(MIGRATIONS)
