"""Readers of the file formats that the data sets come in: IDX, CSV and ``.ts``, gzipped or not.

Nothing here trusts a file: every size it claims is checked against the bytes that are there.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20

# The third byte of an IDX header names the type; data are big-endian.
_IDX_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class TimeSeries(NamedTuple):
    """What a ``.ts`` file holds.

    ``series``: one ``[T_n, C]`` float64 array a case; lengths may differ.
    ``labels``: integers ``[N]`` that index ``classes``; empty where the file has no labels.
    ``classes``: the names of the classes in the order of the header.
    """

    series: list[np.ndarray]
    labels: np.ndarray
    classes: tuple[str, ...]


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, the format of MNIST, gzipped or not.

    Parameters
    ----------
    path
        The file. Whether it is gzipped is read from its first bytes, not from its name.

    Returns
    -------
    ndarray
        The array with the shape and type of the header, in the machine's byte order.

    Raises
    ------
    ValueError
        The file is not IDX, is truncated, or has bytes past its end.

    Notes
    -----
    Format: two zero bytes, the type, the number of axes, the axes as big-endian uint32, the data
    (LeCun, Cortes, Burges, "The MNIST database of handwritten digits").
    """
    path = Path(path)
    with _open(path) as stream:
        head = _read(stream, 4, "read_idx", path)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_DTYPES or head[3] == 0:
            raise ValueError(
                f"[read_idx] {path} starts with the bytes {head.hex(' ') or '(none)'}; "
                "an IDX file is needed: 00 00, a type from 08 to 0e, the number of axes"
            )
        axes = head[3]
        sizes = _read(stream, 4 * axes, "read_idx", path)
        if len(sizes) < 4 * axes:
            raise ValueError(
                f"[read_idx] {path} ends inside its header; {4 + 4 * axes} header bytes are needed"
            )
        shape = tuple(np.frombuffer(sizes, ">u4").tolist())
        dtype = np.dtype(_IDX_DTYPES[head[2]])
        needed = math.prod(shape) * dtype.itemsize
        data = _read(stream, needed + 1, "read_idx", path)
    if len(data) != needed:
        given = f"only {len(data)}" if len(data) < needed else "more"
        raise ValueError(
            f"[read_idx] {path} has {given} data bytes; its header (shape {shape}, {dtype.name}) "
            f"needs {needed}"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def read_csv(path: str | os.PathLike[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Read a table of numbers with one line of column names, gzipped or not.

    Returns
    -------
    names, values
        The column names and a ``[rows, columns]`` float64 array.

    Raises
    ------
    ValueError
        A line has another number of fields than the header, or a field is not a number.
    """
    path = Path(path)
    lines = _lines(path, "read_csv")
    if not lines:
        raise ValueError(f"[read_csv] {path} is empty; a line of column names is needed")
    names = tuple(name.strip() for name in lines[0].split(","))
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = line.split(",")
        if len(fields) != len(names):
            raise ValueError(
                f"[read_csv] {path}, line {number}: {len(fields)} fields; "
                f"the header needs {len(names)}"
            )
        rows.append(_numbers(fields, "read_csv", path, number))
    return names, np.asarray(rows, np.float64).reshape(len(rows), len(names))


def read_ts(path: str | os.PathLike[str]) -> TimeSeries:
    """Read a ``.ts`` file (the text format of aeon and sktime) without time stamps.

    Each line of data is one case: channels separated by ``:``, values in time by ``,``, the
    class last. ``?`` is a missing value and becomes NaN.

    Raises
    ------
    ValueError
        No ``@data`` line, time stamps, a line with another number of channels, channels of
        different lengths, a class that the header does not name, a value that is no number.
    """
    path = Path(path)
    header: dict[str, list[str]] = {}
    series: list[np.ndarray] = []
    labels: list[int] = []
    classes: tuple[str, ...] = ()
    dimensions: int | None = None
    in_data = False
    for number, raw in enumerate(_lines(path, "read_ts"), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if in_data:
            case, label = _ts_case(line, classes, path, number)
            dimensions = dimensions or case.shape[1]
            if case.shape[1] != dimensions:
                raise ValueError(
                    f"[read_ts] {path}, line {number}: {case.shape[1]} channels; "
                    f"{dimensions} are needed"
                )
            series.append(case)
            if label is not None:
                labels.append(label)
        elif line.startswith("@"):
            key, *values = line[1:].split()
            header[key.lower()] = values
            if key.lower() == "data":
                in_data = True
                classes, dimensions = _ts_header(header, path)
    if not in_data:
        raise ValueError(f"[read_ts] {path} has no @data line; a .ts file is needed")
    return TimeSeries(series, np.asarray(labels, np.int64), classes)


def _ts_header(header: dict[str, list[str]], path: Path) -> tuple[tuple[str, ...], int | None]:
    """The classes and the number of channels that the directives name."""
    if header.get("timestamps", ["false"])[:1] == ["true"]:
        raise ValueError(f"[read_ts] {path} has time stamps; @timeStamps false is needed")
    label = header.get("classlabel", ["false"])
    classes = tuple(label[1:]) if label[:1] == ["true"] else ()
    dimensions = header.get("dimensions", header.get("dimension"))
    if not dimensions:
        return classes, None
    if not dimensions[0].isdecimal() or int(dimensions[0]) == 0:
        raise ValueError(
            f"[read_ts] {path}: @dimensions {dimensions[0]}; a positive integer is needed"
        )
    return classes, int(dimensions[0])


def _ts_case(
    line: str, classes: tuple[str, ...], path: Path, number: int
) -> tuple[np.ndarray, int | None]:
    """One line of data: the ``[T, C]`` series and its class."""
    parts = line.split(":")
    label = None
    if classes:
        name = parts.pop().strip()
        if name not in classes:
            raise ValueError(
                f"[read_ts] {path}, line {number}: ends in {name[:40]!r}; "
                f"one of the classes {', '.join(classes)} is needed (is the file truncated?)"
            )
        label = classes.index(name)
    channels = [_numbers(part.split(","), "read_ts", path, number) for part in parts]
    lengths = {len(channel) for channel in channels}
    if len(lengths) != 1:
        raise ValueError(
            f"[read_ts] {path}, line {number}: channels of lengths {sorted(lengths)}; "
            "one length is needed"
        )
    return np.asarray(channels, np.float64).T, label


def _numbers(fields: list[str], who: str, path: Path, number: int) -> list[float]:
    values = []
    for field in fields:
        text = field.strip()
        try:
            values.append(math.nan if text == "?" else float(text))
        except ValueError:
            raise ValueError(
                f"[{who}] {path}, line {number}: {text[:40]!r}; a number is needed"
            ) from None
    return values


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    with path.open("rb") as stream:
        zipped = stream.read(2) == _GZIP_MAGIC
    return gzip.open(path, "rb") if zipped else path.open("rb")


def _read(stream: gzip.GzipFile | io.BufferedReader, size: int, who: str, path: Path) -> bytes:
    """Up to ``size`` bytes, in chunks: a header that lies about its size must not take memory."""
    parts: list[bytes] = []
    left = size
    try:
        while left > 0 and (part := stream.read(min(left, _CHUNK))):
            parts.append(part)
            left -= len(part)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"[{who}] {path}: {error}; a complete gzip file is needed (is it truncated?)"
        ) from None
    return b"".join(parts)


def read_text(path: Path, who: str) -> str:
    """A file of UTF-8 text, gzipped or not."""
    with _open(path) as stream:
        data = _read(stream, 1 << 40, who, path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"[{who}] {path}: {error.reason}; UTF-8 text is needed") from None


def _lines(path: Path, who: str) -> list[str]:
    return read_text(path, who).splitlines()
