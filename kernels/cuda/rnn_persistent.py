"""Kernels K0, K1, K2: all steps of the recurrence in one launch. `rnn_choice` says which and how."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import cupy
import numpy as np

from fastnn.kernels.cuda import loader
from fastnn.kernels.cuda.rnn_call import NULL, Call
from fastnn.kernels.cuda.rnn_choice import Card, Plan, Work, choose

VARIABLE = "FASTNN_CUDA_RNN"
_NON_PORTABLE_CLUSTER = 14  # CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED
_PORTABLE = 8  # blocks of a cluster that every card takes


@cache
def card(device: int) -> Card:
    """The facts of a device that the choice needs."""
    attributes: Mapping[str, int] = cupy.cuda.Device(device).attributes
    return Card(
        10 * attributes["ComputeCapabilityMajor"] + attributes["ComputeCapabilityMinor"],
        attributes["MultiProcessorCount"],
        attributes["MaxSharedMemoryPerBlockOptin"],
        bool(attributes["CooperativeLaunch"]),
    )


def plan_of(call: Call, backward: bool) -> Plan:
    """How this call runs on the current device."""
    work = Work(call.cell, call.G, call.H, call.B, call.dtype.itemsize, backward)
    here = card(cupy.cuda.runtime.getDevice())
    return choose(here, work, os.environ.get(VARIABLE) or None)


def forward(call: Call, outward: tuple[Any, ...], recurrent: Any) -> bool:
    """Run all steps; False where the choice is K3."""
    plan = plan_of(call, False)
    if plan.kernel == "k3":
        return False
    H, Hp = call.H, (call.H + 7) // 8 * 8
    U = cupy.ascontiguousarray(recurrent)
    if Hp != H:
        U = cupy.zeros((Hp, call.G * H), call.dtype)
        U[:H] = recurrent
    _run("rnn_forward", call, plan, outward, U, Hp, 3 if call.cell == 3 else 2)
    return True


def backward(call: Call, inward: tuple[Any, ...], recurrent: Any) -> bool:
    """Run all steps; False where the choice is K3."""
    plan = plan_of(call, True)
    if plan.kernel == "k3":
        return False
    H, Hp, G = call.H, (call.H + 7) // 8 * 8, call.G
    transposed = recurrent.T
    if Hp == H:
        U = cupy.ascontiguousarray(transposed)
    else:
        padded = cupy.zeros((G, Hp, H), call.dtype)
        for g in range(G):
            padded[g, :H] = transposed[g * H : (g + 1) * H]
        U = padded.reshape(G * Hp, H)
    _run("rnn_backward", call, plan, inward, U, G * Hp, 2)
    return True


def defines_of(plan: Plan, backward: bool) -> dict[str, int]:
    """The macros of rnn_forward.cu and rnn_backward.cu, besides dtype and cell."""
    defines = {
        "FNN_EXCHANGE": int(plan.kernel == "k2"),
        "FNN_CLUSTER": plan.blocks if plan.kernel == "k1" else 1,
        "FNN_THREADS": plan.threads,
        "FNN_ROWS": plan.pass_rows,
        "FNN_REGISTERS": plan.registers,
    }
    if backward:
        defines["FNN_COLUMNS"] = plan.columns
    return defines


def _run(
    name: str, call: Call, plan: Plan, arrays: tuple[Any, ...], U: Any, K: int, buffers: int
) -> None:
    grid = plan.kernel == "k2"
    exchange = flags = NULL
    if grid:
        exchange = cupy.zeros((buffers, plan.teams, plan.rows, K), call.dtype)
        flags = cupy.zeros((plan.teams, plan.blocks), np.uint32)
    sizes = (plan.units, plan.rows, plan.slices, plan.shared_chunks)
    defines = call.defines | defines_of(plan, name == "rnn_backward")
    kernel = loader.kernel(name, name, defines, cooperative=grid)
    if kernel.max_dynamic_shared_size_bytes < plan.shared_bytes:
        kernel.max_dynamic_shared_size_bytes = plan.shared_bytes
    if plan.kernel == "k1" and plan.blocks > _PORTABLE:
        _allow_large_cluster(kernel)
    kernel(
        (plan.blocks, plan.teams),
        (plan.threads,),
        (*call.args, *arrays, U, *(np.int32(n) for n in sizes), exchange, flags),
        shared_mem=plan.shared_bytes,
    )


@cache
def _allow_large_cluster(kernel: Any) -> None:
    from cupy_backends.cuda.api import driver

    driver.funcSetAttribute(kernel.kernel.ptr, _NON_PORTABLE_CLUSTER, 1)
