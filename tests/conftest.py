"""What every test stands on: a home of its own, no hub, no threads that fight for the cores."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Read when the libraries are imported, so they are set before any test is.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="workbench-tests-hub-")
os.environ.pop("HF_TOKEN", None)
os.environ.pop("COLUMNS", None)  # readline exports the size of its own terminal to the test workers
os.environ.pop("LINES", None)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from engine.ledger import Ledger

# Started in the background or by nohup, this process ignores signals, and so would every program that a test starts.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """WORKBENCH_HOME for this test alone, with temporary files beside it; neither is inside `tmp_path`."""
    own = tmp_path_factory.mktemp("own")
    (own / "tmp").mkdir()
    monkeypatch.setenv("WORKBENCH_HOME", str(own / "home"))
    monkeypatch.setenv("TMPDIR", str(own / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("WORKBENCH_DEBUG", raising=False)
    return own / "home"


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    """An empty ledger at the default place."""
    opened = Ledger.open(home / "ledger.db")
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama-shaped base model with its tokenizer, made once a worker; not to be changed."""
    from tests.tiny import make_llama

    return make_llama(tmp_path_factory.mktemp("tiny") / "base")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for LD_LIBRARY_PATH with a libnvidia-ml.so.1 that shows two GPUs which nothing can compute on."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc to compile a driver for the NVML binding")
    folder = tmp_path_factory.mktemp("nvml")
    source = Path(__file__).parent / "engine" / "nvml.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", source], check=True)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real published data sets, where the checkout has them beside it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no published data sets at {folder}")
    return folder
