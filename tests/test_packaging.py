"""pyproject.toml lists every package of the source tree, and only those."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def packages(folder: Path, name: str) -> set[str]:
    """Folders with Python files below ``folder``, as dotted names."""
    found = {path.parent for path in folder.rglob("*.py") if "__pycache__" not in path.parts}
    return {".".join((name, *path.relative_to(folder).parts)) for path in found}


def test_packages_are_those_of_the_tree():
    listed = set(PROJECT["tool"]["setuptools"]["packages"])
    # fastnn/kernels may be a link to kernels/, for work in the tree without an install.
    own = {name for name in packages(ROOT / "fastnn", "fastnn") if ".kernels" not in name}
    elsewhere = {name: packages(ROOT / name, f"fastnn.{name}") for name in ("examples", "kernels")}
    assert listed - {"fastnn.data"} == own.union(*elsewhere.values())


def test_numpy_is_the_only_dependency():
    assert [name.split(">")[0] for name in PROJECT["project"]["dependencies"]] == ["numpy"]


def test_the_extras():
    extras = PROJECT["project"]["optional-dependencies"]
    assert {"io", "plot", "progress", "demo", "test", "bench", "cuda12", "cuda13"} <= set(extras)
    assert extras["demo"] == ["fastnn[io,plot,progress]"]
    assert not any("torch" in name for name in extras["test"])
