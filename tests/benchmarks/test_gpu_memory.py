"""The benchmark of predicted memory, on a CPU: it has to work the first time that somebody has a GPU."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks import gpu_memory


def test_a_stand_in_goes_through_all_of_it(tmp_path: Path) -> None:
    found = gpu_memory.figures(tmp_path, None, gpu_memory.TINY[:1])
    [row] = found["rows"]
    assert row["process"]["measured_mib"] > 100, row
    assert row["step"]["rows"] * row["step"]["tokens"] > 0
    assert not (tmp_path / "runs").exists(), "results of large models would fill the disk"
    assert "tiny lora" in gpu_memory.as_text(found)


def test_errors_are_summed_over_what_was_measured() -> None:
    rows = [
        {"case": "1b", "allocated": {"measured_mib": 10.0, "error_pct": -2.0}},
        {"case": "3b", "allocated": {"measured_mib": 10.0, "error_pct": 1.0}},
        {"case": "8b", "left_out": "it does not fit"},
    ]
    found = gpu_memory.summed(rows)
    assert found == {"allocated": {"runs": 2, "mean_pct": 1.5, "worst_pct": 2.0}}
    machine = {"gpu": "H200", "driver": "580", "torch": "2.13.0", "date": "2026-11-20"}
    told = gpu_memory.as_text({"machine": machine, "rows": rows, "errors": found})
    assert "left out: it does not fit" in told and "mean 1.50 %, worst 2.00 % of 2" in told
