"""A server that stands for Google Cloud Storage, in a process of its own, with one empty bucket."""

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults.conftest import left_alone, place  # noqa: F401  # a disk's runs, which a bucket's are compared with

SERVER = """
import contextlib, re, sys, urllib.parse
from gcp_storage_emulator import server
from gcp_storage_emulator.exceptions import NotFound

class Handler(server.RequestHandler):
    def end_headers(self):  # with what it lacks: TensorStore wants to know which generation of an object it reads
        asked = re.match("/storage/v1/b/bucket/o/([^?/]+)[?].*alt=media", self.path)
        if asked and self.command == "GET":
            name = urllib.parse.unquote(asked.group(1))
            with contextlib.suppress(NotFound):
                self.send_header("x-goog-generation", self.storage.get_file_obj("bucket", name)["generation"])
        super().end_headers()

server.RequestHandler = Handler
server.create_server("localhost", int(sys.argv[1]), in_memory=True, default_bucket="bucket").run()
"""


@pytest.fixture(scope="session")
def bucket(tmp_path_factory) -> Iterator[str]:
    """The address of a bucket, which processes find by the environment."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    address = f"http://localhost:{port}"
    log = tmp_path_factory.mktemp("emulator") / "log"
    os.environ |= {
        "STORAGE_EMULATOR_HOST": address,
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "any",
        "GOOGLE_CLOUD_PROJECT": "any",
        "TENSORSTORE_GCS_REQUEST_CONCURRENCY": "1",  # two writes at a time may both succeed there, unlike at Google
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # asks Google itself
    }
    with log.open("wb") as out:
        server = subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=out, stderr=out)
    try:
        while not _answers(address):
            assert server.poll() is None, log.read_text()
        yield "gs://bucket"
    finally:
        server.kill()
        server.wait()


def _answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=1) as answer:
        return answer.status == 200
    return False


@pytest.fixture
def brought(tmp_path):
    """What brings a folder of the bucket onto the disk."""
    from jaxgpt.buckets import files_below, path_of

    def bring(address: str) -> Path:
        there = path_of(address)
        for file in files_below(there):
            here = tmp_path / there.name / file.relative_to(there).as_posix()
            here.parent.mkdir(parents=True, exist_ok=True)
            here.write_bytes(file.read_bytes())
        return tmp_path / there.name

    return bring
