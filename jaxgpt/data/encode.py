"""Text to token shards: each split in one reading, in bounded memory, by all cores; interrupted, it continues.

A split is read in batches of pieces. A shard is some whole batches, and has a record of how far the text was read when
it was full. So a start that finds shards reads over what is in them, and ends with the same bytes.
"""

import json
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich import progress as bars
from rich.console import Console

from jaxgpt.data.manifest import TextCounts
from jaxgpt.data.shards import SHARD, shard_file
from jaxgpt.errors import RunError
from jaxgpt.files import parse_json, write_text
from jaxgpt.text.corpora import Piece
from jaxgpt.text.corpora.documents import Reader, digest_after
from jaxgpt.text.tokenizer import Tokenizer
from jaxgpt.text.vocabulary import tokenizer_from_dict

BATCH = 2**20  # characters that are encoded in one call
WORTH_PROCESSES = 2**26  # bytes of text from which on it pays to start a process for each core

Advance = Callable[[int, int], None]
"""(bytes, tokens) that are done."""
Encode = Callable[[Iterator[list[Piece]]], Iterator[tuple[list[Piece], "EncodedBatch"]]]


@dataclass(frozen=True)
class EncodedBatch:
    """The tokens of some pieces with the ends of their documents, and what is lost in them."""

    ids: np.ndarray
    unk: int
    unknown: int
    unknown_bytes: int


@dataclass
class Progress:
    """How far a split is encoded."""

    batches: int = 0
    shards: int = 0
    digest: str = ""
    counts: TextCounts = field(default_factory=TextCounts)


def encode_split(
    folder: Path, split: str, read: Reader[Piece], encode: Encode, dtype: str, advance: Advance, size: int = SHARD
) -> tuple[TextCounts, str]:
    """Writes the tokens of a split into shards of about `size`; returns (its counts, the digest of its text)."""
    done = _resume(folder, split)
    advance(done.counts.bytes, done.counts.tokens)
    batches = islice(batches_of(read()), done.batches, None)
    part: list[np.ndarray] = []
    for pieces, encoded in encode(batches):
        part.append(encoded.ids.astype(dtype))
        count(done, pieces, encoded)
        advance(sum(len(piece.text) + 1 for piece in pieces), len(encoded.ids))
        if sum(map(len, part)) >= size:
            _write(folder, split, part, done)
            part = []
    if part:
        _write(folder, split, part, done)
    return done.counts, done.digest


def count(done: Progress, pieces: list[Piece], encoded: EncodedBatch) -> None:
    """Adds a batch to how far a split is encoded."""
    done.batches += 1
    for piece in pieces:
        done.digest = digest_after(done.digest, piece)
    counts = done.counts
    done.counts = TextCounts(
        documents=counts.documents + sum(piece.ends for piece in pieces),
        lines=counts.lines + sum(piece.text.count("\n") + 1 for piece in pieces),
        tokens=counts.tokens + len(encoded.ids),
        unk=counts.unk + encoded.unk,
        unknown=counts.unknown + encoded.unknown,
        unknown_bytes=counts.unknown_bytes + encoded.unknown_bytes,
        bytes=counts.bytes + sum(len(piece.text.encode("utf-8", "surrogatepass")) + 1 for piece in pieces),
    )


def _write(folder: Path, split: str, part: list[np.ndarray], done: Progress) -> None:
    """Writes a shard, and then the record that makes it count."""
    file = shard_file(folder, split, done.shards)
    with file.open("wb") as out:
        for ids in part:
            out.write(ids.tobytes())
        out.flush()
        os.fsync(out.fileno())
    done.shards += 1
    write_text(file.with_suffix(".json"), json.dumps(asdict(done) | {"size": file.stat().st_size}))


def _resume(folder: Path, split: str) -> Progress:
    """Returns how far the whole shards of a split go; what comes after them is removed."""
    done = Progress()
    while True:
        file = shard_file(folder, split, done.shards)
        try:
            record = parse_json(file.with_suffix(".json").read_text(encoding="utf-8"))
            whole = file.stat().st_size == record.pop("size")
            following = Progress(**record | {"counts": TextCounts(**record["counts"])})
        except (OSError, ValueError, KeyError, TypeError):
            whole, following = False, done
        if not whole or following.shards != done.shards + 1:
            for left in (file, file.with_suffix(".json")):
                left.unlink(missing_ok=True)
            return done
        done = following


def batches_of(pieces: Iterator[Piece]) -> Iterator[list[Piece]]:
    """Yields pieces in lists of about BATCH characters."""
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def encode_batch(tokenizer: Tokenizer, batch: list[Piece], tokenized: bool) -> EncodedBatch:
    """Returns the tokens of pieces: after each that ends its document `eos`, after others a line break."""
    special = tokenizer.special
    # Where no token is a line break and nothing else, one that is inside a document belongs to its text.
    texts = [piece.text if piece.ends or special.newline is not None else piece.text + "\n" for piece in batch]
    encoded = tokenizer.encode_batch(texts, tokenized)
    parts: list[np.ndarray] = []
    for piece, ids in zip(batch, encoded.ids, strict=True):
        parts.append(ids)
        if (after := special.eos if piece.ends else special.newline) is not None:
            parts.append(np.array([after], np.int32))
    together = np.concatenate(parts)
    if together.max() >= tokenizer.vocab_size:  # the model would read another token's vector and say nothing
        raise RunError(f"the tokenizer gave id {together.max()}, and has {tokenizer.vocab_size} tokens")
    unk = 0 if special.unk is None else int(np.sum(together == special.unk))
    return EncodedBatch(together, unk, encoded.unknown, encoded.unknown_bytes)


@contextmanager
def encoder(tokenizer: Tokenizer, tokenized: bool, size: int) -> Iterator[Encode]:
    """Gives the function that encodes batches in their order: for a large text by a process for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if size < WORTH_PROCESSES or cores == 1:
        yield lambda batches: ((batch, encode_batch(tokenizer, batch, tokenized)) for batch in batches)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process in which JAX has threads may hang
    start = (tokenizer.to_dict(), tokenized)
    with ProcessPoolExecutor(cores, context, initializer=_start_worker, initargs=start) as pool:

        def encode(batches: Iterator[list[Piece]]) -> Iterator[tuple[list[Piece], EncodedBatch]]:
            waiting: deque[tuple[list[Piece], Future[EncodedBatch]]] = deque()
            for batch in batches:
                waiting.append((batch, pool.submit(_work, batch)))
                if len(waiting) > 2 * cores:
                    done, future = waiting.popleft()
                    yield done, future.result()
            for done, future in waiting:
                yield done, future.result()

        yield encode


_worker: dict[str, Any] = {}


def _start_worker(tokenizer: dict[str, Any], tokenized: bool) -> None:
    _worker.update(tokenizer=tokenizer_from_dict(tokenizer), tokenized=tokenized)


def _work(batch: list[Piece]) -> EncodedBatch:
    return encode_batch(_worker["tokenizer"], batch, _worker["tokenized"])


SAY_EVERY = 5.0  # seconds between two lines where there is no terminal


@contextmanager
def progress(name: str, size: int) -> Iterator[Advance]:
    """Gives the function that shows how far an encoding is: a bar on a terminal, elsewhere a line now and then."""
    began = said = time.monotonic()
    read = tokens = 0
    fresh: int | None = None  # bytes that were there from an earlier start
    live = sys.stdout.isatty()
    columns = (bars.BarColumn(bar_width=20), bars.TaskProgressColumn(), bars.TextColumn("{task.description}"))
    console = Console(highlight=False, soft_wrap=True)
    with bars.Progress(*columns, console=console, disable=not live, transient=True) as bar:
        task = bar.add_task(name, total=size or None)

        def advance(more: int, more_tokens: int) -> None:
            nonlocal read, tokens, said, fresh
            read, tokens = read + more, tokens + more_tokens
            fresh = more if fresh is None else fresh
            now = time.monotonic()
            if not live and now - said < SAY_EVERY:
                return
            said, seconds = now, max(now - began, 1e-3)
            speed = max(1.0, (read - fresh) / seconds)
            left = f", {max(0.0, size - read) / speed:,.0f} s left" if size and read > fresh else ""
            of = f" of {size / 1e6:,.0f}" if size else ""
            line = f"{name}: {read / 1e6:,.0f}{of} MB encoded, {tokens:,} tokens, {speed / 1e6:.1f} MB/s{left}"
            if live:
                bar.update(task, completed=read, description=line)
            else:
                print(line, flush=True)

        yield advance
