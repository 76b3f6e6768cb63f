"""Measures the API of a real server: time to the first streamed word, and many clients at once against one by one.

python -m benchmarks.serve runs/tiny_chat

The clients are bare sockets on one event loop, each connection opened beforehand and each request made of bytes
beforehand, so that it is the server that is measured. They run on the server's machine and take a little of it.
"""

import asyncio
import contextlib
import json
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import tyro

from benchmarks.race import spread

LAST_EVENT = b"data: [DONE]\n\n\r\n0\r\n\r\n"  # and the end of the chunks that HTTP sends it in
CLIENTS = "asyncio sockets, connections kept open, requests made beforehand, answers parsed afterwards"


@dataclass(frozen=True)
class Options:
    """Measure serving on this machine."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of the run to serve."""
    clients: int = 20
    """Clients at once, and the server's slots."""
    tokens: int = 100
    """Tokens asked of each."""
    rounds: int = 7
    """Rounds; in each the clients come one after another, then all at once."""
    first_words: int = 200
    """Streamed requests whose first word is timed."""
    out: Path = Path("benchmarks/results")
    """Folder for the JSON file and the server's log."""


@contextlib.contextmanager
def server(run: str, slots: int, log: Any) -> Iterator[str]:
    """Starts a real server on a free port; gives its address."""
    command = [sys.executable, "-m", "jaxgpt", "serve", run, "--port", "0", "--slots", str(slots)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert child.stdout, "opened as a pipe"
    try:
        line = next((line for line in child.stdout if line.startswith("listening on ")), None)
        if line is None:
            raise SystemExit(f"the server did not start; see {log.name}")
        yield line.split()[2]
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(30)


@dataclass
class Connection:
    """A connection that is kept open."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> bytes:
        """Returns the whole answer to a request; raises RuntimeError where it is not 200."""
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head.decode())
        if length := re.search(rb"content-length: (\d+)", head, re.IGNORECASE):
            return await self.reader.readexactly(int(length[1]))
        return await self.reader.readuntil(LAST_EVENT)

    async def first_word(self, request: bytes) -> float:
        """Returns the seconds until the first streamed word came, and reads the rest."""
        began = time.perf_counter()
        self.writer.write(request)
        await self.reader.readuntil(b"data: ")
        seconds = time.perf_counter() - began
        await self.reader.readuntil(LAST_EVENT)
        return seconds


async def connect(url: str) -> Connection:
    address = urlsplit(url)
    return Connection(*await asyncio.open_connection(address.hostname, address.port, limit=2**20))


def request(path: str, body: dict[str, Any] | None = None) -> bytes:
    """Returns a request's bytes: GET, or POST where it has a body."""
    content = json.dumps(body).encode() if body else b""
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + content


async def prompts(connection: Connection, card: dict[str, Any], count: int) -> list[str]:
    """Returns what the model says after its sample prompt, drawn, cut after 1 to `count` words: all lengths differ."""
    texts = []
    for i in range(count):
        drawn = {"model": card["id"], "prompt": card["jaxgpt"]["sample_prompt"], "seed": i, "max_tokens": 1 + i}
        answer = json.loads(await connection.ask(request("/v1/completions", drawn)))
        texts.append(card["jaxgpt"]["sample_prompt"] + answer["choices"][0]["text"])
    return texts


async def measure(url: str, options: Options) -> dict[str, Any]:
    """Returns seconds and tokens of everything, and whether the texts were equal."""
    connections = [await connect(url) for _ in range(options.clients)]
    lone = connections[0]
    card = json.loads(await lone.ask(request("/v1/models")))["data"][0]
    asked = [
        {"model": card["id"], "prompt": prompt, "max_tokens": options.tokens, "temperature": 0}
        for prompt in await prompts(lone, card, options.clients)
    ]
    in_short = [request("/v1/completions", body | {"stream": True, "max_tokens": 8}) for body in asked]
    first = [await lone.first_word(in_short[i % len(in_short)]) for i in range(options.first_words)]
    texts, tokens = zip(*[read(await lone.ask(request("/v1/completions", body))) for body in asked], strict=True)
    ways = {
        "whole": await alternate(connections, [request("/v1/completions", body) for body in asked], options.rounds),
        "streamed": await alternate(
            connections,
            [
                request("/v1/completions", body | {"stream": True, "stream_options": {"include_usage": True}})
                for body in asked
            ],
            options.rounds,
        ),
    }
    health = json.loads(await lone.ask(request("/health")))
    for connection in connections:
        connection.writer.close()
    return {
        "run": options.run,
        "clients": options.clients,
        "clients_are": CLIENTS,
        "tokens": tokens,
        "first_word_seconds": {"median": statistics.median(first), "max": max(first), "count": len(first)},
        "answers": {
            way: {
                "tokens_per_second": {name: spread([sum(tokens) / s for s in part]) for name, part in seconds.items()},
                "at_once_is_quicker_by": spread([a / b for a, b in zip(*seconds.values(), strict=True)]),
                "texts_compared": len(answers),
                "texts_unequal": sum(read(answer) != (texts[i], tokens[i]) for i, answer in answers),
            }
            for way, (seconds, answers) in ways.items()
        },
        "still_being_written": health["writing"] + health["waiting"],
    }


async def alternate(
    connections: Sequence[Connection], requests: Sequence[bytes], rounds: int
) -> tuple[dict[str, list[float]], list[tuple[int, bytes]]]:
    """Returns the seconds of each round, one by one and at once, and all answers with the number of their request."""

    async def one_by_one() -> list[bytes]:
        return [await connections[0].ask(request) for request in requests]

    async def at_once() -> list[bytes]:
        return await asyncio.gather(*(c.ask(request) for c, request in zip(connections, requests, strict=True)))

    seconds: dict[str, list[float]] = {"one by one": [], "at once": []}
    answers = list(enumerate(await at_once()))
    for _ in range(rounds):
        for name, work in (("one by one", one_by_one), ("at once", at_once)):
            began = time.perf_counter()
            answered = await work()
            seconds[name].append(time.perf_counter() - began)
            answers += enumerate(answered)
    return seconds, answers


def read(answer: bytes) -> tuple[str, int]:
    """Returns the text of an answer, whole or streamed, and how many tokens it has."""
    if answer.startswith(b"{"):
        body = json.loads(answer)
        return body["choices"][0]["text"], body["usage"]["completion_tokens"]
    *events, last = [json.loads(event) for event in re.findall(rb"^data: ({.*})$", answer, re.MULTILINE)]
    return "".join(event["choices"][0]["text"] for event in events), last["usage"]["completion_tokens"]


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "serve.log").open("w") as log, server(options.run, options.clients, log) as url:
        result = asyncio.run(measure(url, options))
    print(f"{options.run}: {options.clients} greedy texts of {min(result['tokens'])} to {max(result['tokens'])} tokens")
    print(
        f"clients: {CLIENTS}\n\n"
        f"| answers | one by one | {options.clients} at once | ratio, pair by pair | texts that differ |"
    )
    print("|---|---|---|---|---|")
    for way, row in result["answers"].items():
        rates = (f"{x['median']:,.0f} ({x['min']:,.0f} to {x['max']:,.0f})" for x in row["tokens_per_second"].values())
        ratio = row["at_once_is_quicker_by"]
        print(
            f"| {way} | {' | '.join(rates)} tokens/s | {ratio['median']:.2f} ({ratio['min']:.2f} to "
            f"{ratio['max']:.2f}) | {row['texts_unequal']} of {row['texts_compared']} |"
        )
    first = result["first_word_seconds"]
    print(
        f"\nfirst streamed word, alone, warm: median {first['median'] * 1e3:.1f} ms, worst of {first['count']} "
        f"{first['max'] * 1e3:.1f} ms"
    )
    (options.out / "serve.json").write_text(json.dumps(result, indent=2) + "\n")
    print(f"{options.out}/serve.json")


if __name__ == "__main__":
    main()
