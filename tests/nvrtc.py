"""NVRTC without a driver, by ctypes: machine code for any architecture, and what it needs.

A cubin is an ELF file. Its section ``.nv.info`` has a list of attributes; FRAME_SIZE gives the
local memory of each function, which is where registers are spilled to, and REGCOUNT its registers.
"""

from __future__ import annotations

import ctypes
import struct
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

_FRAME_SIZE, _REGISTERS = 0x11, 0x2F
_WITH_SIZE = 0x04  # a format of attributes: two bytes of size, then that many


class Usage(NamedTuple):
    """What a kernel takes."""

    registers: int
    local_bytes: int


def _roots() -> list[Path]:
    spec = find_spec("nvidia")
    places = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    return [*(p for place in places for p in sorted(place.glob("*")))]


@cache
def library() -> ctypes.CDLL | None:
    """libnvrtc of the wheels, or None."""
    for root in _roots():
        for path in sorted((root / "lib").glob("libnvrtc.so.*")):
            if "alt" not in path.name:
                return ctypes.CDLL(str(path))
    return None


def includes() -> list[str]:
    """Folders with CUDA's headers."""
    found = [root / "include" for root in _roots()]
    found = [folder for folder in found if (folder / "cuda_fp16.h").exists()]
    return [f"-I{place}" for folder in found for place in (folder, folder / "cccl")]


def unavailable() -> str | None:
    """Why nothing can be compiled here, or None."""
    missing = library() is None or not includes()
    return "NVRTC or CUDA's headers are missing: pip install 'fastnn[nvrtc]'" if missing else None


def compile_cubin(source: str, name: str, options: list[str]) -> bytes:
    """Machine code; the compiler's words as a RuntimeError."""
    nvrtc = library()
    assert nvrtc is not None
    program = ctypes.c_void_p()
    _check(
        nvrtc,
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), 0, None, None
        ),
    )
    try:
        encoded = [option.encode() for option in options]
        status = nvrtc.nvrtcCompileProgram(
            program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded)
        )
        if status:
            raise RuntimeError(f"{name} {options}\n{_bytes(nvrtc, 'ProgramLog', program).decode()}")
        return _bytes(nvrtc, "CUBIN", program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _check(nvrtc: ctypes.CDLL, status: int) -> None:
    if status:
        nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
        raise RuntimeError(nvrtc.nvrtcGetErrorString(status).decode())


def _bytes(nvrtc: ctypes.CDLL, what: str, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(nvrtc, getattr(nvrtc, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def usage(cubin: bytes) -> dict[str, Usage]:
    """Registers and local memory of every kernel."""
    sections = _sections(cubin)
    names = _symbols(cubin, sections)
    found: dict[str, dict[int, int]] = {}
    for name, start, size, _ in sections:
        if name != ".nv.info":
            continue
        at = start
        while at < start + size:
            kind, attribute, length = struct.unpack_from("<BBH", cubin, at)
            at += 4
            if kind != _WITH_SIZE:
                continue
            if attribute in (_FRAME_SIZE, _REGISTERS):
                symbol, value = struct.unpack_from("<II", cubin, at)
                found.setdefault(names[symbol], {})[attribute] = value
            at += length
    kernels = {name[6:] for name, *_ in sections if name.startswith(".text.")}
    return {
        name: Usage(values.get(_REGISTERS, 0) & 0xFFFF, values.get(_FRAME_SIZE, 0))
        for name, values in found.items()
        if name in kernels
    }


def _sections(elf: bytes) -> list[tuple[str, int, int, int]]:
    """(name, offset, size, type)."""
    table = struct.unpack_from("<Q", elf, 0x28)[0]
    entry, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    rows = [struct.unpack_from("<IIQQQQ", elf, table + i * entry) for i in range(count)]
    text = rows[names][4]
    return [(_text(elf, text + row[0]), row[4], row[5], row[1]) for row in rows]


def _symbols(elf: bytes, sections: list[tuple[str, int, int, int]]) -> list[str]:
    start, size = next((s, n) for name, s, n, _ in sections if name == ".symtab")
    text = next(s for name, s, _, _ in sections if name == ".strtab")
    return [
        _text(elf, text + struct.unpack_from("<I", elf, at)[0])
        for at in range(start, start + size, 24)
    ]


def _text(elf: bytes, start: int) -> str:
    return elf[start : elf.index(b"\0", start)].decode()
