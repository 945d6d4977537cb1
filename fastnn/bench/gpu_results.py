"""The results of a GPU benchmark in a file that several runs fill: what is there is not done again.

A lease of a card is short, and a kernel that waits for ever must not take it all. The file is
written anew after each row, with the name of the row that runs. A row that takes too long ends the
process, with the stacks of all threads on stderr; the next run sees the name, writes down that the
row did not end, and goes on with the next one.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from fastnn.files import write_whole

LONGEST = 120.0  # seconds of a row
_RUNNING = "running"

Named = TypeVar("Named")


class Results:
    """The rows of one command.

    Parameters
    ----------
    path : Path
        Continued if it is there.
    command : str
        What measures; a file of another command is refused.
    environment : dict
        Of this run; a file from another card is refused.
    limit : float, optional
        Seconds after which no row starts.

    Raises
    ------
    ValueError
        If the file is another command's, another card's, or none of ours.
    """

    def __init__(
        self, path: Path, command: str, environment: dict[str, Any], limit: float | None = None
    ) -> None:
        self.path, self.limit = path, limit
        self._end = None if limit is None else time.monotonic() + limit
        self.document: dict[str, Any] = {"command": command, "runs": [], "rows": []}
        if path.exists():
            self.document = _read(path, command, environment.get("device"))
        self.rows: list[dict[str, Any]] = self.document["rows"]
        left = self.document.pop(_RUNNING, None)
        if left is not None:
            self.rows.append({"name": left, "error": "did not end: it hung, or the process died"})
        self.document["runs"].append(environment)
        self._write()

    def missing(self, rows: Iterable[Named]) -> list[Named]:
        """Those of ``rows`` (by their ``name``) that the file has not."""
        there = {row["name"] for row in self.rows}
        return [row for row in rows if row.name not in there]  # type: ignore[attr-defined]

    def in_time(self) -> bool:
        """Whether another row may start."""
        return self._end is None or time.monotonic() < self._end

    @contextmanager
    def row(self, name: str, longest: float = LONGEST) -> Iterator[dict[str, Any]]:
        """A dictionary to fill with what was measured; in the file at the end of the block."""
        result: dict[str, Any] = {"name": name, "run": len(self.document["runs"]) - 1}
        self.document[_RUNNING] = name
        self._write()
        _watch(longest)
        try:
            yield result
        except Exception as error:  # one row must not end the others
            result["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        finally:
            faulthandler.cancel_dump_traceback_later()
        del self.document[_RUNNING]
        self.rows.append(result)
        self._write()

    def _write(self) -> None:
        write_whole(self.path, (json.dumps(self.document, indent=1) + "\n").encode())


def _watch(seconds: float) -> None:
    """End the process, with a message, if the row takes longer."""
    stderr = sys.__stderr__  # sys.stderr may be no file, as inside a test
    if stderr is not None:
        faulthandler.dump_traceback_later(seconds, exit=True, file=stderr)


def _read(path: Path, command: str, device: Any) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); a file of this command is needed") from None
    if not isinstance(document, dict) or document.get("command") != command:
        raise ValueError(f"{path} is not of `bench {command}`; its own file, or none, is needed")
    before = {run.get("device") for run in document["runs"]} - {device}
    if before:
        raise ValueError(f"{path} is of {before.pop()}; a file of {device}, or none, is needed")
    return document
