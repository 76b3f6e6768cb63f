"""One side of a race: a process that gets ready once, and then works when it is told to."""

import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def serve(work: Callable[[int], dict[str, Any]]) -> None:
    """The child's side: does the work of each number read, and answers with what work returns and peak memory.

    Seconds are those of the whole work, unless work says which of its seconds count.

    The first line, 1, is the first step: its answer tells the parent that everything is compiled.
    """
    for line in sys.stdin:
        began = time.perf_counter()
        answer = work(int(line))
        answer.setdefault("seconds", time.perf_counter() - began)
        answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1 if sys.platform == "darwin" else 1e3
        )
        print(json.dumps(answer), file=sys.__stdout__, flush=True)


class Entrant:
    """The parent's side: a child process that waits, without using the machine, until it is asked."""

    def __init__(self, name: str, module: str, arguments: dict[str, Any], log: Any) -> None:
        self.name = name
        began = time.perf_counter()
        self._child = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        self.first = self.run(1)
        self.first_step_seconds = time.perf_counter() - began

    def run(self, amount: int) -> dict[str, Any]:
        """Returns the child's answer for this amount of work; raises RuntimeError when it has died."""
        stdin, stdout = self._child.stdin, self._child.stdout
        assert stdin, "opened as a pipe"
        assert stdout, "opened as a pipe"
        with contextlib.suppress(BrokenPipeError):  # the missing answer tells
            stdin.write(f"{amount}\n")
            stdin.flush()
        line = stdout.readline()
        if not line:
            code = self._child.wait()
            self.close()
            raise RuntimeError(f"{self.name}: ended with exit code {code}; see the log")
        return json.loads(line)

    def close(self) -> None:
        """Ends the child."""
        self._child.kill()
        self._child.communicate()
