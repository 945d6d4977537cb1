"""The direction of imports, and what ``import fastnn`` costs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"fastnn": ROOT / "fastnn", "fastnn.kernels": ROOT / "kernels"}

# What a module may import of fastnn at its top level or inside functions: prefixes.
CORE = ("fastnn.types", "fastnn.shapes", "fastnn.dispatch", "fastnn.deferred")
ALLOWED = {
    "fastnn.kernels": ("fastnn.kernels",),
    "fastnn.types": (),
    "fastnn.deferred": (),
    "fastnn.shapes": ("fastnn.types", "fastnn.deferred"),
    "fastnn.dispatch": ("fastnn.backends",),
    "fastnn.backends": (
        "fastnn.kernels",
        "fastnn.types",
        "fastnn.backends.constant",
        "fastnn.backends.cuda_probe",
    ),
    # The table of the cells (names, gates, states) is data that both sides read.
    "fastnn.ops": (*CORE, "fastnn.ops", "fastnn.kernels.cells"),
}
# Above the operations everything may be used but what lies below them.
ABOVE = ("layers", "losses", "optimizers", "models", "metrics", "initializers", "callbacks")
BELOW = ("fastnn.backends", "fastnn.kernels")


def modules() -> Iterator[tuple[str, Path]]:
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "fastnn" and parts[0] == "kernels":  # a link to the other folder
                continue
            name = ".".join((package, *parts))
            yield name.removesuffix(".__init__"), path


def imported(name: str, path: Path) -> Iterator[str]:
    """Every module that the file imports, ``from a import b`` as a.b if that is a module."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    known = dict(modules())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                up = ".".join(parts[: len(parts) - node.level + 1])
                base = f"{up}.{base}" if base else up
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in known or full in known.values() else base


def within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == p or module.startswith(p + ".") for p in prefixes)


EVERY = dict(modules())


def test_the_walk_sees_the_house():
    assert {"fastnn", "fastnn.ops.conv", "fastnn.backends.numpy_ref", "fastnn.kernels"} <= set(
        EVERY
    )
    ops = set(imported("fastnn.ops.conv", EVERY["fastnn.ops.conv"]))
    assert {"fastnn.dispatch", "fastnn.shapes", "fastnn.types"} <= ops
    reference = set(
        imported("fastnn.kernels.reference.conv", EVERY["fastnn.kernels.reference.conv"])
    )
    assert "fastnn.kernels.reference.patches" in reference


@pytest.mark.parametrize("name", sorted(EVERY))
def test_imports_go_one_way(name):
    ours = {m for m in imported(name, EVERY[name]) if within(m, ("fastnn",))}
    for area, allowed in ALLOWED.items():
        if within(name, (area,)):
            itself = () if area == "fastnn.backends" else (area,)
            wrong = {m for m in ours if not within(m, (*allowed, *itself))}
            assert not wrong, f"{name} imports {sorted(wrong)}"
            return
    if within(name, tuple(f"fastnn.{above}" for above in ABOVE)):
        wrong = {m for m in ours if within(m, BELOW)}
        assert not wrong, f"{name} imports {sorted(wrong)}"


def test_dispatch_imports_no_backend_at_import():
    tree = ast.parse(EVERY["fastnn.dispatch"].read_text())
    names = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    data = {f"fastnn.backends.{name}" for name in ("MODULES", "DEVICES", "constant")}
    assert {n for n in names if n.startswith("fastnn.")} == data


HEAVY = ("scipy", "matplotlib", "torch", "tensorflow", "keras", "jax", "cupy", "numba", "sklearn")
OPTIONAL = ("safetensors", "tqdm")


@pytest.mark.parametrize(
    "statement",
    [
        "import fastnn",
        "import fastnn; fastnn.dense_forward(*[__import__('numpy').ones((1, 1))] * 2)",
        "import fastnn; fastnn.layers.Dense",
        "import fastnn; fastnn.random_uniform(3, seed=1)",
    ],
)
def test_nothing_heavy_is_imported(statement):
    code = (
        f"import sys; {statement}; "
        f"print(*{{m.partition('.')[0] for m in sys.modules}} & {set(HEAVY + OPTIONAL)!r})"
    )
    # From elsewhere: a source tree in the current folder would hide an installed package.
    root = str(Path(fastnn.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=os.sep,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


def test_every_public_name_is_there():
    for name in dir(fastnn):
        assert getattr(fastnn, name) is not None, name
    with pytest.raises(AttributeError, match="module 'fastnn' has no attribute 'no_such'"):
        fastnn.no_such  # noqa: B018
    with pytest.raises(AttributeError):
        fastnn._hidden  # noqa: B018


def test_the_version_is_a_text():
    assert fastnn.__version__[0].isdigit()


def test_the_public_names_are_listed():
    import fastnn

    assert set(fastnn.__all__) == set(dir(fastnn))
    assert {"Sequential", "layers", "conv2d_forward", "rnn_backward", "gradcheck"} <= set(
        dir(fastnn)
    )
    for name in fastnn.__all__:
        assert getattr(fastnn, name) is not None


def test_records_and_objects_are_short_in_print():
    import numpy as np

    import fastnn

    _, saved = fastnn.dense_forward(np.ones((200, 30)), np.ones((30, 4)), activation="relu")
    text = repr(saved)
    assert "x=float64[200, 30]" in text and "activation='relu'" in text and len(text) < 200
    assert repr(fastnn.losses.Huber(2.0)) == "Huber(delta=2.0)"
    assert repr(fastnn.layers.Dense(3, name="d")) == "<Dense 'd'>"
