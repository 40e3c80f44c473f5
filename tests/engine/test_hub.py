"""What the hub refuses, in words: real errors of the real client, made by a small hub that runs here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from engine import hub
from engine.errors import Problem
from engine.hub_problem import hub_problem
from tests.tiny import make_tokenizer

TOKEN = "hf_secretsecretsecretsecretsecret"
FILES = [("config.json", 600), ("model.safetensors", 3_000), ("pytorch_model.bin", 5_000), ("onnx/model.onnx", 9_000)]


class Hub(BaseHTTPRequestHandler):
    """Answers by the name of the repository that is asked for."""

    def do_GET(self) -> None:
        status, code = {
            "gated": (403, "GatedRepo"),
            "unknown": (404, "RepoNotFound"),
            "revision": (404, "RevisionNotFound"),
            "token": (401, ""),
            "busy": (429, ""),
            "ill": (503, ""),
        }.get(self.path.split("/")[4].split("?")[0], (200, ""))
        listed = {"id": "owner/model", "sha": "a" * 40, "siblings": [self._file(*file) for file in FILES]}
        body = json.dumps(listed if status == 200 else {"error": f"no, {TOKEN}"}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if status == 401:
            self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing on the terminal."""

    @staticmethod
    def _file(name: str, size: int) -> dict[str, object]:
        return {"rfilename": name, "size": size}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(HfApi, "__init__", _api_for(address))
    yield address
    server.shutdown()
    server.server_close()


def _api_for(address: str) -> object:
    real = HfApi.__init__

    def make(self: HfApi, *args: object, **settings: object) -> None:
        real(self, endpoint=address, token=TOKEN)

    return make


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("gated", "gated", "accept terms"),
        ("unknown", "model", "There is no model owner/unknown"),
        ("revision", "model", "no such revision"),
        ("token", "gated", "hf auth login"),
        ("busy", "network", "Try again in a few minutes"),
        ("ill", "network", "status 503"),
    ],
)
def test_each_refusal_has_its_words_and_never_the_token(endpoint: str, name: str, code: str, words: str) -> None:
    with pytest.raises(Problem) as caught:
        hub.check(f"owner/{name}")
    assert caught.value.code == code
    assert words in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_download_counts_only_what_a_job_takes(endpoint: str) -> None:
    assert hub.check("owner/model") == hub.Download("owner/model", "main", total=3_600, missing=3_600)


def test_a_download_that_does_not_fit_the_disk_is_refused(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "ROOM", 1 << 60)  # no disk has this much to spare
    with pytest.raises(Problem, match="does not fit the disk") as caught:
        hub.check("owner/model")
    assert caught.value.code == "disk"


def test_nobody_answering_is_told_from_being_offline_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Problem, match="HF_HUB_OFFLINE is set") as offline:
        hub.check("owner/model")
    assert offline.value.code == "network"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "__init__", _api_for("http://127.0.0.1:9"))
    with pytest.raises(Problem, match="cannot be reached"):
        hub.check("owner/model")


def test_a_full_disk_is_not_called_a_network_problem() -> None:
    problem = hub_problem(OSError(28, "No space left on device"), "owner/model")
    assert problem.code == "disk"


def test_a_folder_needs_no_hub_but_a_configuration(tmp_path: Path, tiny_base: Path) -> None:
    assert hub.check(str(tiny_base)).missing == 0
    make_tokenizer(tmp_path / "no-model")
    with pytest.raises(Problem, match=r"no config\.json"):
        hub.check(str(tmp_path / "no-model"))
    with pytest.raises(Problem, match="There is no folder"):
        hub.check(str(tmp_path / "nothing"))
    with pytest.raises(Problem, match="There is no model"):
        hub.check("not a name")
