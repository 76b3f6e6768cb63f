"""Reads a compiled program: how often each part runs, what it costs by the compiler's estimate, moves and sends."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f32": 4, "s32": 4, "u32": 4} | {
    "s64": 8,
    "u64": 8,
    "f64": 8,
}
ARRAY = re.compile(rf"\b({'|'.join(BYTES)})\[([\d,]*)\]")
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota", "after-all", "partition-id"} | {
    "replica-id",
    "optimization-barrier",
    "while",
    "conditional",
    "call",
}
"""What moves nothing itself."""
NO_ESTIMATE = 2**63 - 1  # is what libtpu writes where it has none


@dataclass(frozen=True)
class Program:
    """One run of a compiled program, on each device."""

    cycles: int
    """The compiler's estimate, which TPUs' gives: without collectives, and without the kernels it only calls."""
    moved: float
    """Bytes read and written by its kernels, caches not considered."""
    unpriced: float
    """Those of them by kernels that the compiler should estimate, and says of that it cannot."""
    kernels: int
    sent: dict[str, tuple[int, float]]
    """Kind of collective -> (how often, bytes through a device's links: of an all-reduce twice what is reduced)."""


class _Op(NamedTuple):
    name: str
    shape: str
    kind: str
    rest: str


def read_program(text: str) -> Program:
    """Returns what the text of an optimized program says of one run of it.

    Of a condition the branch counts that moves least: where our programs have one, the other is for what is rare.
    """
    parts, entry = _parts(text)
    times = _times(parts, entry)
    inside = set(_called(parts, ("fusion", "reduce", "scatter", "sort", "map", "reduce-window", "all-reduce")))
    cycles, moved, unpriced, kernels = 0, 0.0, 0.0, 0
    for part, ops in parts.items():
        if not (count := times[part]) or part in inside:
            continue
        shapes = {op.name: op.shape for op in ops}
        for op in ops:
            estimated = re.search(r'"estimated_cycles":"(\d+)"', op.rest)
            is_known = estimated is None or int(estimated[1]) < NO_ESTIMATE
            cycles += count * int(estimated[1]) if estimated and is_known else 0
            if op.kind in FREE or op.kind.endswith("-done"):
                continue
            kernels += count
            moved += count * _moved(op, shapes)
            unpriced += 0 if is_known else count * _moved(op, shapes)
    return Program(cycles, moved, unpriced, kernels, _all_sent(parts, times, inside))


def _collectives(parts: dict[str, list[_Op]], inside: set[str]) -> Iterator[tuple[str, _Op]]:
    """Yields (computation, operation) of all that sends.

    TPUs' programs spell out a collective in each kernel that does a part of it, with one channel: it comes once. In no
    kernel the channel tells nothing, as that of all of JAX's own collectives is 1.
    """
    found = [
        (part, op, re.search(r"channel_id=(\d+)", op.rest))
        for part, ops in parts.items()
        for op in ops
        if op.kind.removesuffix("-start") in COLLECTIVES
    ]
    spread = {channel[1] for part, _, channel in found if part in inside and channel is not None}
    seen = set()
    for part, op, channel in found:
        if channel is not None and channel[1] in spread:
            if channel[1] in seen:
                continue
            seen.add(channel[1])
        yield part, op


def _all_sent(parts: dict[str, list[_Op]], times: Counter[str], inside: set[str]) -> dict[str, tuple[int, float]]:
    sent: dict[str, tuple[int, float]] = {}
    shapes = {part: {op.name: op.shape for op in ops} for part, ops in parts.items()}
    for part, op in _collectives({part: ops for part, ops in parts.items() if times[part]}, inside):
        kind = op.kind.removesuffix("-start")
        size = _sent(kind, op, shapes[part])
        if part.startswith("all-reduce-scatter"):  # one kernel, of which each device keeps its part
            kind, size = "reduce-scatter", size / 2
        number, before = sent.get(kind, (0, 0.0))
        sent[kind] = number + times[part], before + times[part] * size
    return sent


def _parts(text: str) -> tuple[dict[str, list[_Op]], str]:
    """Returns (the operations of each computation, the name of the one that is the program)."""
    parts: dict[str, list[_Op]] = {}
    entry = part = ""
    for line in text.splitlines():
        if line and not line[0].isspace() and line.rstrip().endswith("{"):
            found = re.match(r"(ENTRY )?%?([\w.\-]+)", line)
            assert found is not None
            part = found[2]
            parts[part] = []
            entry = part if found[1] else entry
        elif part and (found := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)", line)):
            shape, rest = _shape_and_rest(found[2])
            kind = re.match(r"\s*([\w\-]+)\(", rest)
            parts[part].append(_Op(found[1], shape, kind[1] if kind else "", rest))
    return parts, entry


def _shape_and_rest(text: str) -> tuple[str, str]:
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    end = _closing(text)
    return text[:end], text[end:]


def _closing(text: str) -> int:
    """Returns the place after the bracket that closes the first one."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and letter == ")":
            return place + 1
    return len(text)


def _edges(parts: dict[str, list[_Op]]) -> Iterator[tuple[str, str, int, str]]:
    """Yields (caller, called, how often in one run of the caller, the kind of operation that calls)."""
    names = r"(?:calls|to_apply|true_computation|false_computation|body|condition)=%?([\w.\-]+)"
    lists = r"(?:branch_computations|called_computations|async_computations)=\{([^}]*)\}"
    for part, ops in parts.items():
        for op in ops:
            often = _trips(op, parts) if op.kind == "while" else 1
            all_called = re.findall(names, op.rest)
            for group in re.findall(lists, op.rest):
                all_called += re.findall(r"%?([\w.\-]+)", group)
            if op.kind == "conditional":
                all_called = [min(all_called, key=lambda called: _moved_by(parts[called]))]
            for called in all_called:
                yield part, called, often, op.kind


def _moved_by(ops: list[_Op]) -> float:
    shapes = {op.name: op.shape for op in ops}
    return sum(_moved(op, shapes) for op in ops if op.kind not in FREE)


def _trips(op: _Op, parts: dict[str, list[_Op]]) -> int:
    """Returns how often a loop runs: as the compiler says, or the constant that its counter is compared with."""
    if known := re.search(r'known_trip_count"?:\{"n":"(\d+)"', op.rest):
        return int(known[1])
    condition = re.search(r"condition=%?([\w.\-]+)", op.rest)
    assert condition is not None
    constants = [re.search(r"constant\((\d+)\)", test.rest) for test in parts[condition[1]] if test.kind == "constant"]
    return max((int(found[1]) for found in constants if found), default=1)


def _times(parts: dict[str, list[_Op]], entry: str) -> Counter[str]:
    """Returns how often each computation runs."""
    calls = defaultdict(list)
    for caller, called, often, _ in _edges(parts):
        calls[caller].append((called, often))
    times: Counter[str] = Counter()

    def run(part: str, count: int) -> None:
        times[part] += count
        for called, often in calls[part]:
            run(called, count * often)

    run(entry, 1)
    return times


def _called(parts: dict[str, list[_Op]], kinds: tuple[str, ...]) -> Iterator[str]:
    return (called for _, called, _, kind in _edges(parts) if kind.removesuffix("-start") in kinds)


def _sizes(shape: str) -> list[float]:
    return [BYTES[kind] * math.prod(map(int, filter(None, sizes.split(",")))) for kind, sizes in ARRAY.findall(shape)]


def _operands(op: _Op, shapes: dict[str, str]) -> list[str]:
    begin = op.rest.index("(")
    return [shapes.get(name, "") for name in re.findall(r"%([\w.\-]+)", op.rest[begin:][: _closing(op.rest[begin:])])]


def _moved(op: _Op, shapes: dict[str, str]) -> float:
    """Returns the bytes read and written; of an array that a loop goes over, those of the part it is at."""
    results = _sizes(op.shape)
    read, written = [sum(_sizes(shape)) for shape in _operands(op, shapes)], sum(results)
    name = op.name.replace("_", "-")
    if "dynamic-update-slice" in name:  # in place: what is not as large as the result is what is put into it
        return 2 * sum(size for size in read if size not in results)
    return written + sum(min(size, max(written, 1)) if "dynamic-slice" in name else size for size in read)


def _sent(kind: str, op: _Op, shapes: dict[str, str]) -> float:
    if kind == "reduce-scatter":
        return sum(sum(_sizes(shape)) for shape in _operands(op, shapes))
    results = _sizes(op.shape)
    if kind == "all-reduce":
        return 2 * sum(results)
    return max(results) if op.kind.endswith("-start") else sum(results)  # what is started has its operands there, too
