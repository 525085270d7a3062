import hashlib
import http.server
import json
import sys
import threading
from typing import ClassVar

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from jaxablate.checkpoints import hub
from jaxablate.core.errors import UserError

COMMIT = "5" * 40
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"\x02" + bytes(7) + b"{}",
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"\x80\x04.",
    "modeling_evil.py": b"raise SystemExit",
}


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as one download needs."""

    asked: ClassVar[list[str]] = []
    status = 200
    message = ""

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        self.asked.append(self.path)
        headers = {"X-Repo-Commit": COMMIT}
        if self.status != 200:
            headers |= {"X-Error-Code": self.message, "X-Error-Message": self.message}
            body = b"{}"
        elif self.path.startswith("/api/"):
            siblings = [{"rfilename": name} for name in FILES]
            body = json.dumps({"id": "a/b", "sha": COMMIT, "siblings": siblings}).encode()
            if "/tree/" in self.path:
                rows = [
                    {"type": "file", "path": n, "size": len(b), "oid": "0" * 40}
                    for n, b in FILES.items()
                ]
                body = json.dumps(rows).encode()
        else:
            body = FILES[self.path.rpartition("/")[2]]
            headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()}"'
        self.send_response(self.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def local_hub(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.HfApi, "endpoint", address, raising=False)
    monkeypatch.setattr(_Hub, "asked", [])
    yield _Hub
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_local_folder_is_taken_as_it_is(tmp_path):
    assert hub.resolve(tmp_path) == tmp_path
    assert hub.resolve(str(tmp_path)) == tmp_path
    assert hub.revision_of(tmp_path) is None


def test_a_repository_is_fetched_without_pickles_and_code_and_its_commit_is_known(local_hub):
    folder = hub.resolve("someone/model")
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert (folder / "config.json").read_bytes() == FILES["config.json"]
    assert hub.revision_of(folder) == COMMIT
    assert not any(name in path for path in local_hub.asked for name in (".bin", ".py"))


def test_a_revision_is_passed_on(local_hub):
    assert hub.revision_of(hub.resolve("someone/model", revision="v1")) == COMMIT
    assert any("/revision/v1" in path for path in local_hub.asked)


def test_what_was_fetched_once_is_found_without_a_network(local_hub, monkeypatch):
    folder = hub.resolve("someone/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(local_hub.asked)
    assert hub.resolve("someone/model") == folder
    assert len(local_hub.asked) == before


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (404, "RepoNotFound", "no such repository"),
        (404, "RevisionNotFound", "no such revision"),
        (403, "GatedRepo", "gated"),
    ],
)
def test_a_refusal_of_the_hub_is_one_sentence(local_hub, monkeypatch, status, code, words):
    monkeypatch.setattr(local_hub, "status", status)
    monkeypatch.setattr(local_hub, "message", code)
    with pytest.raises(UserError, match=words) as error:
        hub.resolve("someone/model")
    assert str(error.value).startswith("someone/model")
    assert "\n" not in str(error.value)


def test_offline_mode_is_honoured(local_hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        hub.resolve("someone/model")
    assert local_hub.asked == []


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (ConnectionError("no route"), "download failed \\(no route\\)"),
        (OSError(28, "No space left on device"), "No space left"),
        (errors.LocalEntryNotFoundError("x"), "cannot be reached"),
    ],
)
def test_a_failed_download_is_one_sentence(monkeypatch, raised, words):
    def fail(*arguments, **options):
        raise raised

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(UserError, match=words):
        hub.resolve("someone/model")


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="needs huggingface_hub"):
        hub.resolve("someone/model")


@pytest.mark.parametrize(
    "text", ["./modle", "/nowhere/at/all", "a/b/c", "../x", "a\\b", "~x", "", "a\0b"]
)
def test_what_cannot_be_a_repository_is_a_folder_that_is_not_there(monkeypatch, tmp_path, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    with pytest.raises(UserError, match="no such folder"):
        hub.resolve(text)


def test_a_misspelt_folder_is_answered_with_the_nearest_one(tmp_path):
    (tmp_path / "qwen3-tiny").mkdir()
    with pytest.raises(UserError, match=r"did you mean '.*qwen3-tiny'"):
        hub.resolve(str(tmp_path / "qwen-tiny"))


def test_a_file_is_not_a_folder(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match="is a file, not a folder"):
        hub.resolve(tmp_path / "x.gguf")


def test_a_local_folder_has_no_revision(tmp_path):
    with pytest.raises(UserError, match="no revision 'main'"):
        hub.resolve(tmp_path, revision="main")
