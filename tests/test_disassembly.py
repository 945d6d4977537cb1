"""The machine code of the built recurrent kernels: what stays in registers in the innermost loops.

A spill in the loop over k costs a store and a load beside every few multiplications, and no test of
results sees it. `objdump` (GNU binutils) shows the built module. Code of another compiler than GCC,
of a sanitizer build, or of another machine than x86-64 is not judged.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

FEWEST = 4  # multiplications that make a loop one of a micro-kernel
FMA = re.compile(r"vfn?m(?:add|sub)\d+p[sd]$")
TILE = re.compile(r"tdpbf16ps$")
MOVE = re.compile(r"v(?:mov|broadcast|p?xor)|prefetch")
STACK = re.compile(r"\(%[re]sp[,)]")
FRAME = re.compile(r"\(%[re]bp[,)]")


class Line(NamedTuple):
    """One instruction."""

    at: int
    name: str
    operands: str


class Loop(NamedTuple):
    """An innermost loop: a jump back, and what lies between, in which nothing else jumps back."""

    function: str
    framed: bool  # %rbp is the frame, not a register like others
    body: list[Line]

    def count(self, pattern: re.Pattern[str]) -> int:
        """Instructions with such a name."""
        return sum(bool(pattern.match(line.name)) for line in self.body)

    def only_multiplies(self, pattern: re.Pattern[str]) -> bool:
        """Whether it is a loop over k: of the cell's functions it has nothing."""
        return self.count(pattern) >= FEWEST and not any(
            line.name.startswith("v") and not FMA.match(line.name) and not MOVE.match(line.name)
            for line in self.body
        )

    def on_stack(self) -> list[str]:
        """The instructions with an operand on the stack."""
        return [
            f"{self.function} {line.at:x}: {line.name} {line.operands}"
            for line in self.body
            if STACK.search(line.operands) or (self.framed and FRAME.search(line.operands))
        ]

    def isa(self) -> str:
        """By the registers of its multiplications."""
        text = " ".join(line.operands for line in self.body if FMA.match(line.name))
        return "avx512" if "%zmm" in text else "avx2" if "%ymm" in text else "base"


def functions(listing: str) -> Iterator[tuple[str, list[Line]]]:
    """The functions of an objdump listing that multiply."""
    row = re.compile(r"^ *([0-9a-f]+):\t(?:(?:bnd|notrack|rep|lock) )*(\S+) *(.*)$", re.MULTILINE)
    for block in listing.split("\n\n"):
        head = re.match(r"[0-9a-f]+ <(.+)>:\n", block)
        if head and ("vfm" in block or "tdpbf16ps" in block):
            found = row.finditer(block)
            yield head[1].partition(".")[0], [Line(int(m[1], 16), m[2], m[3]) for m in found]


def innermost_loops(name: str, lines: list[Line]) -> Iterator[Loop]:
    """From jumps back to where they go, where no other such jump lies between."""
    framed = any(line.name == "mov" and line.operands == "%rsp,%rbp" for line in lines)
    index = {line.at: i for i, line in enumerate(lines)}
    back = []
    for i, line in enumerate(lines):
        target = re.match(r"[0-9a-f]+\b", line.operands) if line.name.startswith("j") else None
        start = index.get(int(target[0], 16)) if target else None
        if start is not None and start <= i:
            back.append((start, i))
    for start, end in back:
        if not any((a, b) != (start, end) and start <= a and b <= end for a, b in back):
            yield Loop(name, framed, lines[start : end + 1])


@pytest.fixture(scope="module")
def listing() -> str:
    """The built recurrent module, disassembled."""
    module = pytest.importorskip("fastnn.kernels.cpu._rnn", reason="the kernels are not built")
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"{platform.machine()}: the checks know x86-64 only")
    if os.environ.get("FASTNN_SANITIZE"):
        pytest.skip("a sanitizer's code keeps more on the stack")
    tool = shutil.which("objdump")
    if tool is None:
        pytest.skip("no objdump (GNU binutils)")
    path = Path(module.__file__)
    if b"GCC: (" not in path.read_bytes():
        pytest.skip("not built by GCC")
    command = [tool, "-d", "--no-show-raw-insn", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def loops(listing) -> list[Loop]:
    """The innermost loops of the module."""
    found = [loop for name, lines in functions(listing) for loop in innermost_loops(name, lines)]
    if not any(loop.function == "forward_lstm_all" for loop in found):
        pytest.skip("the module is stripped of its symbols")
    return found


@pytest.mark.parametrize("isa", ["avx2", "avx512"])
def test_no_spills_in_the_loops_over_k(loops, isa):
    multiplying = [loop for loop in loops if loop.only_multiplies(FMA) and loop.isa() == isa]
    names = {loop.function for loop in multiplying}
    # there is what to look at: each cell's forward, BPTT's step, dW
    assert {"forward_lstm_all", "forward_gru_all", "product", "weight_product"} <= names
    assert len(multiplying) > 100
    for loop in multiplying:
        spilled = loop.on_stack()
        assert not [line for line in spilled if re.search(r": v|%[xyz]mm", line)], spilled
        # four k at once: an address read again beside 16 multiplications takes none of their time
        assert len(spilled) * 16 <= loop.count(FMA), spilled


def test_tiles_stay_in_the_unit(listing, loops):
    """The tile unit's loops over k: no tile is stored there, and next to nothing on the stack."""
    multiplying = [loop for loop in loops if loop.only_multiplies(TILE)]
    if "tdpbf16ps" not in listing:
        pytest.skip("this compiler does not know the tile unit")
    found = {name for name, lines in functions(listing) if any(TILE.match(x.name) for x in lines)}
    for cell in ("lstm", "gru", "simple"):
        assert any(cell in name and "forward" in name for name in found), found
    assert multiplying
    for loop in multiplying:
        assert not loop.count(re.compile("tilestored|tilezero")), loop.function
        # a product takes 16 cycles: an address that is read again beside 24 of them costs nothing
        assert len(loop.on_stack()) * 8 <= loop.count(TILE), loop.on_stack()


SPILLING = """
0000000000001000 <kernel>:
    1000:	push   %rbp
    1001:	vbroadcastss (%rsi),%ymm0
    1005:	vfmadd231ps (%rdi),%ymm0,%ymm1
    1009:	vfmadd231ps 0x20(%rdi),%ymm0,%ymm2
    100d:	vfmadd231ps 0x40(%rdi),%ymm0,%ymm3
    1011:	vfmadd213ps {operand},%ymm0,%ymm4
    1015:	cmp    %rax,%rcx
    1018:	jne    1001 <kernel+0x1>
    101a:	ret
"""


@pytest.mark.parametrize(
    ("operand", "spills"), [("0x60(%rdi)", 0), ("0x60(%rbp)", 0), ("0x348(%rsp)", 1)]
)
def test_a_spill_is_seen(operand, spills):
    ((name, lines),) = functions(SPILLING.strip().format(operand=operand))
    (loop,) = innermost_loops(name, lines)
    assert loop.only_multiplies(FMA) and loop.isa() == "avx2" and len(loop.on_stack()) == spills
