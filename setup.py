"""Builds the CPU kernels: each family of C once for every ISA and dtype, behind one Cython module.

The C of a family (`kernels/cpu/<family>.inc`) knows neither its dtype nor its ISA. For each ISA
and dtype this script writes a stub of a few lines into the build directory which sets the target by
pragma and includes the family. Adding an ISA is a line in ISAS; adding a family is a line in
FAMILIES.
"""

import os
import platform
from itertools import product
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).parent
CPU = "kernels/cpu"

X86 = platform.machine().lower() in ("x86_64", "amd64")

# name -> (bytes in a vector, registers, GCC target). "base" is what the compiler's default gives:
# SSE2 on x86-64, NEON on arm64.
ISAS = {"base": (16, 16 if X86 else 32, "")}
if X86:
    ISAS["avx2"] = (32, 16, "avx2,fma")
    ISAS["avx512"] = (64, 32, "avx2,fma,avx512f,avx512dq,avx512bw,avx512vl")

DTYPES = ["f32", "f64"]
FAMILIES = ["rnn", "dense", "conv", "pool", "pointwise"]

STUB = """\
/* Written by setup.py: the family {family} for the ISA {isa} and one dtype. */
#define FNN_ISA {isa}
#define VBYTES {vector_bytes}
#define VREGS {registers}
#if {has_target}
#if {has_tiles} && __GNUC__ >= 11
#pragma GCC target("{target},avx512bf16,amx-tile,amx-bf16")
#else
#pragma GCC target("{target}")
#endif
#endif
#define REAL_IS_DOUBLE {is_double}
#include "{family}.inc"
"""

CFLAGS = [
    # gnu11, not c99: -std=c99 would stop the contraction of a*b+c into an FMA.
    "-std=gnu11",
    "-O3",
    # Selects are vectorised only if comparisons need not raise; no kernel reads errno.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-pthread",
    # Python's own flags may ask for debug information, which is four fifths of a wheel.
    "-g0",
    "-Wall",
    "-Wextra",
    # vec is passed between always-inline functions only, so its ABI does not matter.
    "-Wno-psabi",
]
LDFLAGS = ["-pthread"]
BUILD_BASE = "build"
if os.environ.get("FASTNN_SANITIZE"):
    BUILD_BASE = "build/sanitize"  # an object with the sanitizers must not end up in a wheel
    CFLAGS += ["-fsanitize=address,undefined", "-fno-omit-frame-pointer", "-g", "-O1"]
    LDFLAGS += ["-fsanitize=address,undefined"]


def stub_text(family: str, isa: str, dtype: str) -> str:
    vector_bytes, registers, target = ISAS[isa]
    return STUB.format(
        family=family,
        isa=isa,
        vector_bytes=vector_bytes,
        registers=registers,
        target=target,
        has_target=int(bool(target)),
        has_tiles=int(isa == "avx512"),
        is_double=int(dtype == "f64"),
    )


def write_stubs(family: str) -> list[str]:
    """The stub files of a family; left alone when they are up to date, so nothing is rebuilt."""
    folder = Path("build") / "stubs"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for isa, dtype in product(ISAS, DTYPES):
        path = folder / f"{family}_{isa}_{dtype}.c"
        text = stub_text(family, isa, dtype)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        paths.append(str(path))
    return paths


def extension(name: str, sources: list[str]) -> Extension:
    headers = [
        str(path.relative_to(HERE))
        for folder in ("kernels/cpu", "kernels/cells")
        for path in sorted((HERE / folder).glob("*"))
        if path.suffix in (".h", ".inc", ".pxd", ".pxi")
    ]
    return Extension(
        f"fastnn.kernels.cpu._{name}",
        [f"{CPU}/_{name}.pyx", *sources],
        include_dirs=[CPU, "kernels/cells", np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
        depends=headers,
    )


class BuildExt(build_ext):
    """Compiles extensions side by side, and leaves Cython's own C free of our warnings."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2

    def run(self) -> None:
        if self.editable_mode:
            # setuptools would build in a temporary folder, so everything would be built each time.
            self.build_lib = str(Path("build") / "editable")
        super().run()


os.chdir(HERE)
RUNTIME = ["runtime.c", "isa.c", "work_area.c"]
extensions = [extension("runtime", [f"{CPU}/{name}" for name in RUNTIME])]
extensions += [extension(family, write_stubs(family)) for family in FAMILIES]

setup(
    ext_modules=cythonize(
        extensions,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "embedsignature": True,
            "freethreading_compatible": True,
        },
        build_dir="build/cython",
    ),
    cmdclass={"build_ext": BuildExt},
    options={"build": {"build_base": BUILD_BASE}},
)
