"""Where the files of a data set come from: ``$FASTNN_DATA``, the cache, a mirror.

A download goes to a temporary name beside its place, is checked against the SHA-256 digest of the
official file and only then moved there, so a file in the cache is always whole.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from fastnn.files import whole_file

TIMEOUT = 10.0
"""Seconds that a connection or a read may take before the next mirror is tried."""

_CHUNK = 1 << 18


class RemoteFile(NamedTuple):
    """A file of a data set: its name, size in bytes, and SHA-256 digest (hexadecimal)."""

    name: str
    size: int
    sha256: str


class Located(NamedTuple):
    """The files of a data set on this machine, and a phrase that says where they were."""

    paths: tuple[Path, ...]
    where: str


class DatasetUnavailableError(OSError):
    """A data set is neither on this machine nor could it be downloaded."""


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/fastnn``, or ``~/.cache/fastnn``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fastnn"


def data_dir() -> Path | None:
    """The folder that ``$FASTNN_DATA`` names, or None where it is not set."""
    value = os.environ.get("FASTNN_DATA")
    if not value:
        return None
    path = Path(value).expanduser()
    if not path.is_dir():
        raise NotADirectoryError(
            f"[datasets] FASTNN_DATA={value} is not a folder; a folder with one sub-folder a data "
            "set (mnist, fashion-mnist, ...) is needed"
        )
    return path


def locate(folder: str, names: Sequence[str]) -> Located | None:
    """Find the files ``names`` of one data set in ``$FASTNN_DATA``, then in the cache.

    A name that ends in ``.gz`` may also lie there unpacked. Files of the user's are taken as they
    are: a subset of a data set under the names of the whole is welcome.
    """
    own = data_dir()
    places = [] if own is None else [(own / folder, "$FASTNN_DATA")]
    places.append((cache_dir() / folder, "the cache"))
    for place, what in places:
        paths = [_existing(place, name) for name in names]
        found = tuple(path for path in paths if path is not None)
        if len(found) == len(names):
            return Located(found, f"{what}, {place}")
        if found and what == "$FASTNN_DATA":
            missing = [name for name, path in zip(names, paths, strict=True) if path is None]
            raise FileNotFoundError(
                f"[datasets] {place} has no {', '.join(missing)}; all of "
                f"{', '.join(names)} are needed"
            )
    return None


def obtain(folder: str, files: Sequence[RemoteFile], mirrors: Sequence[str]) -> Located:
    """Find the files of a data set, or download what the cache lacks.

    Raises
    ------
    DatasetUnavailableError
        No mirror gave a file with the right digest; the message names each and why.
    """
    found = locate(folder, [file.name for file in files])
    if found is not None:
        return found
    place = cache_dir() / folder
    hosts = []
    for file in files:
        if not (place / file.name).is_file():
            hosts.append(_download(file, mirrors, place))
    where = f"downloaded from {', '.join(dict.fromkeys(hosts))}, now in the cache, {place}"
    return Located(tuple(place / file.name for file in files), where)


def _existing(place: Path, name: str) -> Path | None:
    for candidate in (name, name.removesuffix(".gz")):
        if (place / candidate).is_file():
            return place / candidate
    return None


def _download(file: RemoteFile, mirrors: Sequence[str], place: Path) -> str:
    """Fetch one file into ``place`` from the first mirror that has it; return its host."""
    reasons = []
    for mirror in mirrors:
        url = mirror + file.name
        host = urlsplit(url).hostname or url
        try:
            _fetch(url, file, place)
        except (OSError, ValueError, http.client.HTTPException) as error:
            reasons.append(f"{host}: {_reason(error)}")
        else:
            return host
    raise DatasetUnavailableError(
        f"[datasets] {file.name} could not be downloaded ({'; '.join(reasons)}); a network is "
        f"needed, or FASTNN_DATA=<folder> with {place.name}/{file.name} in it"
    )


def _fetch(url: str, file: RemoteFile, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    left = file.size
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        print(f"downloading {url} ({file.size / 1e6:.1f} MB)", file=sys.stderr, flush=True)
        with whole_file(place / file.name) as out:
            while left >= 0 and (part := answer.read(_CHUNK)):
                left -= len(part)
                digest.update(part)
                out.write(part)
            if left != 0 or digest.hexdigest() != file.sha256:
                raise ValueError(f"the {file.size - left} bytes it sent are not the official file")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
