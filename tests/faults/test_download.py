"""A download that stops half-way: said in words, and nothing of it is later taken for the corpus."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.faults.workplace import ROOT

NAME, COMMIT = "Salesforce/wikitext", "a" * 40
CONFIG, SPLITS = "wikitext-2-v1", ("train", "validation", "test")
LOAD = """
from jaxgpt.entry import errors_in_words
from jaxgpt.text.corpora import open_text
with errors_in_words():
    corpus = open_text("wikitext-2", None)
    documents = corpus.read().documents.values()
    print(corpus.source, *(sum(piece.text.count(chr(10)) + 1 for piece in read()) for read in documents))
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does for one repository; how the training file is sent is up to the server."""

    protocol_version = "HTTP/1.1"
    server: "HubServer"

    def log_message(self, format: str, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server, self.path.split("?")[0]
        if path.startswith(f"/datasets/{NAME}/resolve/"):
            name = path.split("/", 6)[6]
            if name not in hub.files:
                self.say(b"", 404, {"X-Error-Code": "EntryNotFound"})
            else:
                self.send(name, hub.files[name])
        elif path == f"/api/datasets/{NAME}/tree/{COMMIT}":
            self.say(json.dumps([{"type": "directory", "path": CONFIG, "oid": COMMIT}]).encode())
        elif path == f"/api/datasets/{NAME}/tree/{COMMIT}/{CONFIG}":
            sizes = [(name, len(content)) for name, content in hub.files.items() if "/" in name]
            self.say(json.dumps([{"type": "file", "path": n, "size": s, "oid": COMMIT} for n, s in sizes]).encode())
        elif path.startswith(f"/api/datasets/{NAME}"):
            siblings = [{"rfilename": name} for name in hub.files]
            self.say(json.dumps({"id": NAME, "sha": COMMIT, "tags": [], "siblings": siblings}).encode())
        else:
            self.say(b"", 404)

    def send(self, name: str, content: bytes) -> None:
        hub, headers = self.server, {"ETag": f'"{len(content)}-{name[:5]}{name[-20:]}"', "X-Repo-Commit": COMMIT}
        if "train" not in name or hub.manner == "whole" or self.command == "HEAD":
            self.say(content, 200, headers)
        elif hub.begun.is_set():
            self.say(b"", 404)  # it broke off, and is gone
        else:
            self.say(content, 200, headers, len(content) // 2)
            hub.begun.set()
            if hub.manner == "stalls":
                hub.done.wait()
            self.close_connection = True

    def say(
        self, content: bytes, code: int = 200, headers: dict[str, str] | None = None, only: int | None = None
    ) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[:only])
            self.wfile.flush()


class HubServer(ThreadingHTTPServer):
    """Sends the training file "whole", or half of it and then "stalls" or "breaks"."""

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), Hub)
        self.files, self.manner = files, "whole"
        self.begun, self.done = threading.Event(), threading.Event()


@pytest.fixture
def hub(tmp_path):
    import datasets

    files = {}
    for split in SPLITS:
        table = datasets.Dataset.from_dict({"text": [f" The {split} {number} . \n" for number in range(500)]})
        table.to_parquet(tmp_path / split)
        files[f"{CONFIG}/{split}-00000-of-00001.parquet"] = (tmp_path / split).read_bytes()
    listed = "".join(f"  - split: {split}\n    path: {CONFIG}/{split}-*\n" for split in SPLITS)
    files["README.md"] = f"---\nconfigs:\n- config_name: {CONFIG}\n  data_files:\n{listed}---\n".encode()
    with HubServer(files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.done.set()
        server.shutdown()


@pytest.mark.long
@pytest.mark.parametrize("manner", ["breaks", "stalls"])
def test_half_a_download_is_never_the_corpus(hub, tmp_path, manner):
    """The connection breaks, or the process is killed while it waits for the rest."""

    def load(**variables: str) -> subprocess.Popen[str]:
        clear = {name: value for name, value in os.environ.items() if name not in ("JAXGPT_DATA", "HF_HUB_OFFLINE")}
        ours = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
        environment = clear | ours | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": str(ROOT)} | variables
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", LOAD], env=environment, text=True, cwd=tmp_path, **pipes)

    hub.manner = manner
    broken = load()
    assert hub.begun.wait(120)
    if manner == "stalls":
        broken.kill()
    _, err = broken.communicate(timeout=120)
    if manner == "breaks":
        assert broken.returncode == 2, err
        assert "Traceback" not in err
        last = err.strip().splitlines()[-1]
        assert last.startswith("error: data.corpus: wikitext-2 was not found: ")
        assert f"the download from the hub (http://127.0.0.1:{hub.server_port}) failed" in last

    without = load(HF_HUB_OFFLINE="1")
    _, err = without.communicate(timeout=120)
    assert without.returncode == 2, err
    assert "Salesforce/wikitext is not in the Hugging Face cache" in err

    hub.manner = "whole"
    for source, variables in (("Hugging Face hub", {}), ("Hugging Face cache", {"HF_HUB_OFFLINE": "1"})):
        whole = load(**variables)
        out, err = whole.communicate(timeout=120)
        assert (whole.returncode, out) == (0, f"{source} 500 500 500\n"), err
