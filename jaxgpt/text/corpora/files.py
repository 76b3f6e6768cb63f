"""Reads files of text, JSON lines, parquet and arrow, packed or not, and says where in a file something is wrong."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from jaxgpt.errors import UserError, kind_in_json
from jaxgpt.files import parse_json

# The first bytes of files packed by gzip, zip, xz, bzip2 and zstandard.
COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ\x00", b"BZh", b"\x28\xb5\x2f\xfd")
UNPACKED = (".gz", ".zst")  # files of these names are unpacked as they are read
TABLES = (".parquet", ".arrow")
JSON_LINES = (".jsonl", ".json")

LONGEST_LINE = 2**27  # bytes; a line is held in memory, several times over. The 100 MB of text8 are one line
LONGEST_JSON = 2**25

OnBad = Callable[[UserError], None]
"""What is done about something that cannot be read: it raises the error, or keeps it so that reading continues."""


def refuse(error: UserError) -> NoReturn:
    """Raises the error."""
    raise error


def content_suffix(path: Path) -> str:
    """Returns what kind of file it is, by its name, packed or not: .jsonl for a.jsonl.gz."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() in UNPACKED else path.suffix.lower()


def is_packed(path: Path) -> bool:
    """Returns whether a file begins as packed files do, and is not unpacked here; False where it cannot be read."""
    if path.suffix.lower() in UNPACKED:
        return False
    try:
        with path.open("rb") as file:
            return file.read(6).startswith(COMPRESSED)
    except OSError:
        return False


def _open(path: Path) -> BinaryIO:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if suffix == ".zst":
        import pyarrow

        return cast(BinaryIO, io.BufferedReader(pyarrow.CompressedInputStream(str(path), "zstd"), 2**20))
    return path.open("rb")


def read_lines(path: Path, on_bad: OnBad = refuse, longest: int = LONGEST_LINE) -> Iterator[str]:
    """Yields the lines of a UTF-8 file without their newline.

    What is bad: a file that is missing, unreadable, empty or broken where it is packed, a line that is not UTF-8 (with
    the byte and the line) or longer than `longest` bytes.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, text in _decoded(file, path, on_bad, longest):  # noqa: B007
                yield text
    except FileNotFoundError:
        on_bad(UserError(f"{path}: no such file"))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        if path.suffix.lower() in UNPACKED:
            why = f"after line {number}: it cannot be unpacked; it is cut off, or damaged ({one_line(error)})"
            on_bad(UserError(f"{path}, {why}"))
        else:
            on_bad(UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or one_line(error)})"))


def _decoded(file: BinaryIO, path: Path, on_bad: OnBad, longest: int) -> Iterator[tuple[int, str]]:
    offset, blank = 0, True
    # Only a newline ends a line: text files opened as such would also end it at a carriage return.
    for number, line in enumerate(iter(lambda: file.readline(longest + 1), b""), start=1):
        if number == 1 and line.startswith(COMPRESSED):
            on_bad(UserError(f"{path}: a compressed file; unpack it first, and give the file that comes out"))
            return
        if len(line) > longest:
            on_bad(
                UserError(f"{path}, line {number}: longer than {longest / 1e6:.0f} MB; put line breaks into the file")
            )
            return
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            on_bad(
                UserError(
                    f"{path}: not UTF-8 (byte 0x{line[error.start]:02x} at offset {offset + error.start}, line "
                    f"{number}); save the file as UTF-8, or take it out where it is no text"
                )
            )
            offset, blank = offset + len(line), False
            continue
        offset += len(line)
        text = text.removeprefix("\ufeff") if number == 1 else text
        blank = blank and not text.strip()
        yield number, text[: -2 if text.endswith("\r\n") else -1] if text.endswith("\n") else text
    if blank:
        on_bad(UserError(f"{path}: the file is empty"))


def read_json_lines(path: Path, on_bad: OnBad = refuse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (place, object) for each line that is not blank; the place is "FILE, line N", for messages.

    Bad is what read_lines finds bad, and a line that is not a JSON object.
    """
    for number, line in enumerate(read_lines(path, on_bad, LONGEST_JSON), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            value = parse_json(line)
        except json.JSONDecodeError as error:
            on_bad(
                UserError(f"{place}: not JSON ({error.msg}, column {error.colno}); each line must be one JSON object")
            )
            continue
        except ValueError as error:  # a number too long for Python, brackets nested too deeply
            on_bad(UserError(f"{place}: JSON that cannot be read ({one_line(error)}); take it out"))
            continue
        if isinstance(value, dict):
            yield place, value
        else:
            on_bad(UserError(f"{place}: {kind_in_json(value)} was given; each line must be one JSON object"))


def read_table(path: Path, column: str, on_bad: OnBad = refuse) -> Iterator[tuple[str, Any]]:
    """Yields (place, value) for each row of one column of a parquet or arrow file; the place is "FILE, row N".

    Bad is a file that is missing, of another kind, without that column or without rows.
    """
    try:
        number = 0
        for number, value in enumerate(_rows(path, column), start=1):
            yield f"{path}, row {number}", value
        if not number:
            raise UserError(f"{path}: the file is empty; it has no rows")
    except UserError as error:
        on_bad(error)


def _rows(path: Path, column: str) -> Iterator[Any]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    import datasets

    kind = path.suffix.lower().removeprefix(".")
    try:
        # Streamed, so that no converted copy of the file is left in the cache.
        table = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True)
        columns = list(table.column_names or [])
        if column not in columns:
            raise UserError(f"{path}: no column {column!r}; it has {', '.join(map(repr, columns)) or 'none'}")
        for row in table.select_columns([column]):
            yield row[column]
    except UserError:
        raise
    except Exception as error:  # whatever the reader raises, the file is not one it can read
        raise UserError(f"{path}: cannot be read as {kind} ({one_line(error)})") from None


def one_line(error: BaseException) -> str:
    """Returns what an error of another library says, on one line that is not too long to print."""
    words = " ".join(str(error).split()) or type(error).__name__
    return words if len(words) <= 200 else f"{words[:197]}..."
