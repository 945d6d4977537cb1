"""Every backend has the same functions with the same signatures, and the contract's at that."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from fastnn.backends import MODULES

CONTRACT = Path(__file__).resolve().parent.parent / "docs" / "contract.md"
# What a backend may have: two calls at once, gradients written in their place, an optimizer's step
# in one pass, a way to the device that is not `asarray`, and how much memory is free there.
OPTIONAL = {
    **{name: ["first", "second"] for name in ("rnn_forward_pair", "rnn_backward_pair")},
    "to_device": ["x"],
    "free_memory": [],
    "dense_backward_into": ["dy", "saved", "need_dx", "out"],
    **{name: ["step"] for name in ("sgd_update", "rmsprop_update", "adam_update")},
}
BARE = {"unavailable", "owns", "describe"}  # what a backend without kernels has too


def contract() -> dict[str, list[str]]:
    """name -> parameters, from the section "Backend functions"."""
    section = CONTRACT.read_text().split("## 2. Backend functions")[1].split("## 3.")[0]
    block = "\n".join(line for line in section.splitlines() if line.startswith("    "))
    found = re.findall(r"(\w+)\(([\w, ]*)\) ->", block)
    return {
        name: [p.strip() for p in parameters.split(",") if p.strip()] for name, parameters in found
    }


def public(name: str) -> dict[str, list[str]]:
    module = import_module(MODULES[name])
    return {
        key: list(inspect.signature(value).parameters)
        for key, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not key.startswith("_")
    }


WITH_KERNELS = [name for name in MODULES if set(public(name)) - BARE]


def test_the_contract_is_read():
    functions = contract()
    assert functions["conv2d_backward"] == ["dy", "saved", "need_dx"]
    assert functions["unavailable"] == []
    assert len(functions) == 26
    assert {"numpy", "cython"} <= set(WITH_KERNELS)


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_backend_is_the_contract(name):
    own = public(name)
    more = {key: value for key, value in OPTIONAL.items() if key in own}
    assert own == contract() | more


@pytest.mark.parametrize("name", WITH_KERNELS)
def test_a_backend_resolves_no_default(name):
    module = import_module(MODULES[name])
    for function in public(name):
        for parameter in inspect.signature(getattr(module, function)).parameters.values():
            assert parameter.default is inspect.Parameter.empty, (function, parameter)
            assert parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD, (function, parameter)


@pytest.mark.parametrize("name", sorted(set(MODULES) - set(WITH_KERNELS)))
def test_a_backend_without_kernels_pretends_nothing(name):
    assert set(public(name)) == BARE
    assert import_module(MODULES[name]).unavailable()
