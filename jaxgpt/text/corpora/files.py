"""Reads files of text, JSON lines and parquet, and says where in a file something is wrong."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxgpt.errors import UserError
from jaxgpt.files import parse_json

# The first bytes of files packed by gzip, zip, xz, bzip2 and zstandard.
COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd")


LONGEST_LINE = 2**27  # bytes; a line is held in memory, several times over. The 100 MB of text8 are one line


def is_compressed(path: Path) -> bool:
    """Returns whether a file begins as packed files do; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(6).startswith(COMPRESSED)
    except OSError:
        return False


def read_lines(path: Path) -> Iterator[str]:
    """Yields the lines of a UTF-8 file without their newline.

    Raises UserError when the file is missing, unreadable, empty or not UTF-8 (with the byte and the line), and for a
    line of more than LONGEST_LINE bytes.
    """
    try:
        with path.open("rb") as file:
            yield from _decoded(file, path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _decoded(file: BinaryIO, path: Path) -> Iterator[str]:
    offset, blank = 0, True
    # Only a newline ends a line: text files opened as such would also end it at a carriage return.
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
        if number == 1 and line.startswith(COMPRESSED):
            raise UserError(f"{path}: a compressed file; unpack it first, and give the file that comes out")
        if len(line) > LONGEST_LINE:
            raise UserError(
                f"{path}, line {number}: longer than {LONGEST_LINE / 1e6:.0f} MB; put line breaks into the file"
            )
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}: not UTF-8 (byte 0x{line[error.start]:02x} at offset {offset + error.start}, line {number}); "
                "save the file as UTF-8"
            ) from None
        offset += len(line)
        text = text.removeprefix("\ufeff") if number == 1 else text
        blank = blank and not text.strip()
        yield text[: -2 if text.endswith("\r\n") else -1] if text.endswith("\n") else text
    if blank:
        raise UserError(f"{path}: the file is empty; text was expected")


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


def read_parquet(path: Path, column: str) -> Iterator[tuple[str, Any]]:
    """Yields (place, value) for each row of one column; the place is "FILE, row N", for messages.

    Raises UserError when the file is missing, not parquet, without that column or without rows.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    import datasets

    def rows() -> Iterator[Any]:
        try:
            # Streamed, so that no converted copy of the file is left in the cache.
            table = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
            columns = list(table.column_names or [])
            if column not in columns:
                raise UserError(f"{path}: no column {column!r}; it has {', '.join(map(repr, columns)) or 'none'}")
            yield from table.select_columns([column])
        except UserError:
            raise
        except Exception as error:  # whatever the reader raises, the file is not one it can read
            raise UserError(f"{path}: cannot be read as parquet ({one_line(error)})") from None

    number = 0
    for number, row in enumerate(rows(), start=1):
        yield f"{path}, row {number}", row[column]
    if not number:
        raise UserError(f"{path}: the file is empty; it has no rows")


def one_line(error: BaseException) -> str:
    """Returns what an error of another library says, on one line that is not too long to print."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."
