"""Four engines and three applications on one ledger at once: nobody is locked out, everybody sees the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.ledger import Ledger, events, metrics, runs

STEPS = 9000  # so that each engine seals twice while the others write and read

ENGINE = """
import sys
from pathlib import Path
from engine.ledger import Ledger, events, metrics, runs
with Ledger.open(Path(sys.argv[1])) as ledger:
    run = runs.by_id(ledger, int(sys.argv[2]))
    with metrics.Writer(ledger, run.id) as log:
        for step in range(int(sys.argv[3])):
            log.log(step, {"train/loss": step / 7, "train/rate": run.id})
            if step % 500 == 0:
                runs.progress(ledger, run, step=step, steps=int(sys.argv[3]), ends=None)
                events.add(ledger, "test", str(step), run=run.id)
        assert log.flush()
        print(log.dropped, log.trouble)
"""

APPLICATION = """
import select
import sys
from pathlib import Path
from engine.ledger import Ledger, metrics, runs
ids = [int(each) for each in sys.argv[2:]]
with Ledger.open(Path(sys.argv[1])) as ledger:
    known = {run: metrics.curve(ledger, run, "train/loss") for run in ids}
    done = False
    while True:
        assert len(runs.listed(ledger)) == len(ids)
        for run in ids:
            known[run] = known[run].joined(metrics.curve(ledger, run, "train/loss", after=known[run].seq))
            steps = known[run].steps.tolist()
            assert steps == list(range(len(steps))), "what is seen has no holes"
            assert metrics.curve(ledger, run, "train/loss").steps.tolist()[:len(steps)] == steps
        if done:
            break
        done = bool(select.select([sys.stdin], [], [], 0.02)[0])
    print(*(len(known[run].steps) for run in ids))
"""


def test_four_engines_and_three_applications_at_once(ledger: Ledger, tmp_path: Path) -> None:
    made = [runs.create(ledger, name=name, runs_folder=tmp_path, profile="", settings={}).id for name in "abcd"]
    start = [sys.executable, "-c"]
    applications = [
        subprocess.Popen(
            [*start, APPLICATION, str(ledger.path), *map(str, made)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    engines = [
        subprocess.Popen([*start, ENGINE, str(ledger.path), str(run), str(STEPS)], stdout=subprocess.PIPE, text=True)
        for run in made
    ]
    assert [engine.communicate(timeout=120)[0] for engine in engines] == ["0 \n"] * 4
    assert [application.communicate("end\n", timeout=120)[0] for application in applications] == [
        f"{STEPS} {STEPS} {STEPS} {STEPS}\n"
    ] * 3
    assert [process.returncode for process in (*engines, *applications)] == [0] * 7
    for run in made:
        assert metrics.curve(ledger, run, "train/loss").values.tolist() == [step / 7 for step in range(STEPS)]
        assert len([event for event in events.of_run(ledger, run) if event.kind == "test"]) == STEPS // 500
    assert ledger.value("PRAGMA integrity_check") == "ok"
