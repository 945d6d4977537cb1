"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write under a temporary name, moved into place at the end of the ``with`` block.

    Raises
    ------
    OSError
        The folder is not there or may not be written; a file that was there is as it was.
    """
    target = Path(path)
    if not target.name or target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    # Not by tempfile, whose files nobody else may read: the umask decides here.
    temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(8)}.part")
    try:
        with open(temporary, "xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` by `whole_file`."""
    with whole_file(path) as out:
        out.write(content)
