"""Kernels K0, K1, K2: all steps of the recurrence in one launch; `rnn_choice` says which."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import loader, rnn_variants, streams
from fastnn.kernels.cuda.rnn_call import NULL, Call
from fastnn.kernels.cuda.rnn_choice import Refusal, choose
from fastnn.kernels.cuda.rnn_shapes import Card, Plan, Work

VARIABLE = "FASTNN_CUDA_RNN"
TF32 = "CUPY_TF32"  # CuPy's own: whoever asks it for tf32 in products means these too
_NON_PORTABLE_CLUSTER = 14  # CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
_PORTABLE = 8  # blocks of a cluster that every card with clusters takes
_LARGEST = 16
_refusals: dict[int, list[Refusal]] = {}  # of each device


@cache
def card(device: int) -> Card:
    """The facts of a device that the choice needs."""
    attributes: Mapping[str, int] = cupy.cuda.Device(device).attributes
    capability = 10 * attributes["ComputeCapabilityMajor"] + attributes["ComputeCapabilityMinor"]
    return Card(
        capability,
        attributes["MultiProcessorCount"],
        attributes["MaxSharedMemoryPerBlockOptin"],
        bool(attributes["CooperativeLaunch"]),
        1 if capability < 90 else _LARGEST if _driver() else _PORTABLE,
    )


def work_of(call: Call, backward: bool, capability: int) -> Work:
    """The call, as the choice sees it."""
    spec, tf32 = call.spec, os.environ.get(TF32) == "1"
    return rnn_variants.work(
        spec.cell, spec.reset_after, call.H, call.B, call.dtype, backward, capability, tf32
    )


def plan_of(call: Call, backward: bool) -> tuple[Work, Plan]:
    """How this call runs on the current device."""
    device = cupy.cuda.runtime.getDevice()
    here = card(device)
    # Kernels of two streams that each fill the card would run one after the other.
    here = here._replace(processors=max(1, here.processors // streams.sharing()))
    work = work_of(call, backward, here.capability)
    wanted = os.environ.get(VARIABLE) or None
    return work, choose(here, work, wanted, tuple(_refusals.get(device, ())))


def forward(call: Call, outward: tuple[Any, ...], recurrent: Any) -> bool:
    """Run all steps; False where the choice is K3."""

    def padded(work: Work) -> Any:
        if work.Hp == work.H:
            return cupy.ascontiguousarray(recurrent)
        U = cupy.zeros((work.Hp, call.G * call.H), call.dtype)
        U[: call.H] = recurrent
        return U

    return _run("rnn_forward", call, outward, padded)


def backward(call: Call, inward: tuple[Any, ...], recurrent: Any) -> bool:
    """Run all steps; False where the choice is K3."""

    def padded(work: Work) -> Any:
        H, transposed = call.H, recurrent.T
        if work.Hp == H:
            return cupy.ascontiguousarray(transposed)
        U = cupy.zeros((call.G, work.Hp, H), call.dtype)
        for g in range(call.G):
            U[g, :H] = transposed[g * H : (g + 1) * H]
        return U

    return _run("rnn_backward", call, inward, padded)


def _run(name: str, call: Call, arrays: tuple[Any, ...], padded: Callable[[Work], Any]) -> bool:
    """Launch the kernel of the plan; the plan is made anew where the driver refuses it."""
    while True:
        work, plan = plan_of(call, name == "rnn_backward")
        if plan.kernel == "k3":
            return False
        try:
            _launch(name, call, work, plan, arrays, padded(work))
        except Exception as error:
            if type(error).__name__ != "CUDADriverError":
                raise
            refusal = Refusal(plan.kernel, plan.blocks, " ".join(str(error).split()))
            _refusals.setdefault(cupy.cuda.runtime.getDevice(), []).append(refusal)
        else:
            return True


def _launch(name: str, call: Call, work: Work, plan: Plan, arrays: tuple[Any, ...], U: Any) -> None:
    grid = plan.kernel == "k2"
    exchange = flags = rest = NULL
    if grid:
        buffers = 3 if work.two_products and not work.backward else 2
        exchange = cupy.zeros((buffers, plan.teams, plan.rows, work.stride), call.dtype)
        flags = cupy.zeros((plan.teams, plan.blocks), np.uint32)
    if any(plan.rest_bytes):
        rest = cupy.empty((plan.blocks, sum(plan.rest_bytes)), np.uint8)
    sizes = (work.Hp, plan.units, plan.rows, plan.shared_chunks[0], plan.shared_chunks[-1])
    rest_sizes = (sum(plan.rest_bytes), plan.rest_bytes[0])
    variant = rnn_variants.of_plan(work, plan, call.dtype, call.relu)
    kernel = loader.kernel(name, name, dict(variant.defines), cooperative=variant.cooperative)
    if kernel.max_dynamic_shared_size_bytes < plan.shared_bytes:
        kernel.max_dynamic_shared_size_bytes = plan.shared_bytes
    if plan.kernel == "k1" and plan.blocks > _PORTABLE:
        _driver().funcSetAttribute(kernel.kernel.ptr, _NON_PORTABLE_CLUSTER, 1)
    kernel(
        (plan.blocks, plan.teams),
        (plan.threads,),
        (
            *call.args,
            *arrays,
            U,
            *(np.int32(n) for n in sizes),
            rest,
            *(np.int64(n) for n in rest_sizes),
            exchange,
            flags,
        ),
        shared_mem=plan.shared_bytes,
    )


@cache
def _driver() -> Any:
    """CuPy's driver functions, or None: without them no cluster is larger than is portable."""
    try:
        from cupy_backends.cuda.api import driver
    except ImportError:
        return None
    return driver
