"""Reads files of text, JSON lines and parquet, and says where in a file something is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxgpt.errors import UserError
from jaxgpt.files import parse_json

# The first bytes of files packed by gzip, zip, xz, bzip2 and zstandard.
COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd")


def is_compressed(path: Path) -> bool:
    """Returns whether a file begins as packed files do; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(6).startswith(COMPRESSED)
    except OSError:
        return False


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a UTF-8 file without their newline.

    Raises UserError when the file is missing, unreadable, empty or not UTF-8 (with the byte and the line).
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    if data.startswith(COMPRESSED):
        raise UserError(f"{path}: a compressed file; unpack it first, and give the file that comes out")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}: not UTF-8 (byte 0x{data[error.start]:02x} at offset {error.start}, line {line}); "
            "save the file as UTF-8"
        ) from None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    if not text.strip():
        raise UserError(f"{path}: the file is empty; text was expected")
    # Only a newline ends a line: str.splitlines would also cut at U+2028 and its like, even in a JSON string.
    return text.removesuffix("\n").split("\n")


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (place, object) for each line that is not blank; the place is "FILE, line N", for messages.

    Raises UserError for what read_lines refuses and for a line that is not a JSON object.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            value = parse_json(line)
        except json.JSONDecodeError as error:
            raise UserError(
                f"{place}: not JSON ({error.msg}, column {error.colno}); each line must be one JSON object"
            ) from None
        except ValueError as error:  # a number too long for Python, brackets nested too deeply
            raise UserError(f"{place}: JSON that cannot be read ({one_line(error)}); take it out") from None
        if not isinstance(value, dict):
            raise UserError(f"{place}: {type(value).__name__} was given; each line must be one JSON object")
        yield place, value


def read_parquet(path: Path, column: str) -> list[tuple[str, Any]]:
    """Returns (place, value) for each row of one column; the place is "FILE, row N", for messages.

    Raises UserError when the file is missing, not parquet, without that column or without rows.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    import datasets

    try:
        # Streamed, so that no converted copy of the file is left in the cache.
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        columns = list(rows.column_names or [])
        values = [row[column] for row in rows.select_columns([column])] if column in columns else None
    except Exception as error:  # whatever the reader raises, the file is not one it can read
        raise UserError(f"{path}: cannot be read as parquet ({one_line(error)})") from None
    if values is None:
        raise UserError(f"{path}: no column {column!r}; it has {', '.join(map(repr, columns)) or 'none'}")
    if not values:
        raise UserError(f"{path}: the file is empty; it has no rows")
    return [(f"{path}, row {number}", value) for number, value in enumerate(values, start=1)]


def one_line(error: BaseException) -> str:
    """Returns what an error of another library says, on one line that is not too long to print."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."
