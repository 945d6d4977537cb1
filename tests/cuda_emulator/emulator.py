"""Compiles a .cu file by g++ through the shim, and runs its kernels on the CPU.

The libraries are kept in ``build/cuda_emulator``, named by a hash of the preprocessed source.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUILD = HERE.parent.parent / "build" / "cuda_emulator"

_FLAGS = ["-std=c++17", "-O2", "-fPIC", "-g0", "-fno-strict-aliasing", "-ffp-contract=fast"]
_WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-attributes", "-Wno-unknown-pragmas"]
_WARNINGS += ["-Wno-missing-field-initializers", "-Wno-unused-function"]
_WARNINGS += ["-Wno-maybe-uninitialized"]  # of two conditions that are one, it sees two
_KERNEL = re.compile(
    r'extern\s+"C"\s+__attribute__\(\(fnn_kernel\)\)\s*'
    r"(?P<cluster>__attribute__\(\(fnn_cluster\([^)]*\)\)\))?\s*void\s*"
    r"(?P<cluster_after>__attribute__\(\(fnn_cluster\([^)]*\)\)\))?\s*(?P<name>\w+)\s*\("
)
_LARGEST_SHARED = 227 << 10  # what a block may have on a card of compute capability 9.0


def unavailable() -> str | None:
    """Why kernels cannot be emulated here, or None."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return "the CUDA emulator of the tests is written for x86-64"
    if shutil.which("g++") is None:
        return "the CUDA emulator of the tests needs g++"
    return None


class CompileError(RuntimeError):
    """What g++ said."""


_refused: dict[Path, CompileError] = {}


def _run(command: list[str], given: str | None = None) -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def _build(path: Path, command: list[str], given: str | None = None) -> None:
    """Run a compiler whose output is ``path``, which then appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    _run([*command, "-o", str(temporary)], given)
    os.replace(temporary, path)


@cache
def _runtime() -> ctypes.CDLL:
    text = (HERE / "emulator.cpp").read_bytes()
    path = BUILD / f"libemulator-{sha256(text).hexdigest()[:16]}.so"
    if not path.exists():
        flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
        _build(path, ["g++", *flags, str(HERE / "emulator.cpp")])
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


class Module:
    """The kernels of one source with one set of options.

    Parameters
    ----------
    source : str
        CUDA C++.
    options : sequence of str
        ``-D`` and ``-I`` are passed on.
    """

    def __init__(self, source: str, options: tuple[str, ...] = ()) -> None:
        runtime = _runtime()
        passed = [o for o in options if o.startswith(("-D", "-I"))]
        shim = ["-include", str(HERE / "shim.h"), f"-I{HERE / 'include'}"]
        language = ["-x", "c++", "-std=c++17", "-E", "-DFASTNN_EMULATED"]
        text = _run(["g++", *language, *passed, *shim, "-"], source)
        found = {match["name"]: match for match in _KERNEL.finditer(text)}
        text += "".join(_exports(match) for match in found.values())
        digest = sha256("\n".join([*_FLAGS, text]).encode()).hexdigest()[:24]
        path = BUILD / f"{digest}.so"
        if path in _refused:  # not again for every test
            raise _refused[path]
        if not path.exists():
            given = ["-x", "c++", "-fpreprocessed", "-", "-shared"]
            try:
                _build(path, ["g++", *_FLAGS, *_WARNINGS, *given], text)
            except CompileError as error:
                _refused[path] = error
                raise
        self._library = ctypes.CDLL(str(path))
        self._runtime = runtime
        self.kernels = {name: Kernel(self, name) for name in found}


class Kernel:
    """One kernel: its parameters' sizes, and how to run it."""

    def __init__(self, module: Module, name: str) -> None:
        library = module._library
        self.name = name
        self._run = module._runtime.fnn_run
        self._entry = ctypes.cast(getattr(library, f"fnn_entry_{name}"), ctypes.c_void_p)
        sizes = (ctypes.c_size_t * 64)()
        count = getattr(library, f"fnn_sizes_{name}")(sizes)
        self.parameter_sizes = tuple(sizes[:count])
        self.cluster = ctypes.c_int.in_dll(library, f"fnn_cluster_{name}").value
        bounds = (ctypes.c_void_p * 2)()
        library.fnn_section(bounds)
        self._section = bounds[0]
        self.static_shared = (bounds[1] or 0) - (bounds[0] or 0)

    def __call__(
        self,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: list[Any],
        dynamic_shared: int,
        resident: int,
        order: int,
    ) -> None:
        """Run it; ``arguments`` are ctypes values or buffers of the parameters' sizes."""
        addresses = (ctypes.c_void_p * max(len(arguments), 1))(
            *(ctypes.addressof(value) for value in arguments)
        )
        message = ctypes.create_string_buffer(200)
        failed = self._run(
            self._entry,
            addresses,
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            ctypes.c_size_t(dynamic_shared),
            ctypes.c_uint(self.cluster),
            ctypes.c_void_p(self._section),
            ctypes.c_size_t(self.static_shared),
            ctypes.c_uint(resident),
            ctypes.c_int(order),
            message,
            ctypes.c_size_t(len(message)),
        )
        if failed:
            raise RuntimeError(f"kernel {self.name}: {message.value.decode()}")


def check_launch(
    kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], dynamic: int, allowed: int
) -> None:
    """What a driver refuses: sizes that no card has, shared memory that was not asked for."""
    threads = block[0] * block[1] * block[2]
    if threads > 1024 or block[2] > 64:
        raise ValueError(f"kernel {kernel.name}: a block of {block}; at most 1024 threads")
    if grid[0] >= 2**31 or grid[1] > 65535 or grid[2] > 65535:
        raise ValueError(f"kernel {kernel.name}: a grid of {grid}; (2**31 - 1, 65535, 65535)")
    if grid[0] % kernel.cluster:
        raise ValueError(f"kernel {kernel.name}: a grid of {grid} in clusters of {kernel.cluster}")
    if dynamic > max(allowed, (48 << 10) - kernel.static_shared):
        raise ValueError(
            f"kernel {kernel.name}: {dynamic} bytes of dynamic shared memory, "
            "max_dynamic_shared_size_bytes was not raised"
        )
    if dynamic + kernel.static_shared > _LARGEST_SHARED:
        raise ValueError(f"kernel {kernel.name}: {dynamic} bytes of dynamic shared memory")


def _exports(match: re.Match[str]) -> str:
    name = match["name"]
    attribute = match["cluster"] or match["cluster_after"]
    cluster = attribute[attribute.index("fnn_cluster(") + 12 : -3] if attribute else "1"
    return f"""
extern "C" {{
void fnn_entry_{name}(void **args) {{ fnn_apply({name}, args); }}
int fnn_sizes_{name}(size_t *out) {{ return fnn_sizes({name}, out); }}
extern const int fnn_cluster_{name};
const int fnn_cluster_{name} = {cluster};
}}
"""
