"""Binding of the dense kernels (dense.h): lays out the arrays, releases the GIL, calls."""

import numpy as np

cimport numpy as cnp

from kernels.cpu.arrays cimport data, place, step
from kernels.cpu.runtime cimport fetch_runtime, fnn_runtime

from fastnn.kernels.cpu._runtime import empty, packed_of

cnp.import_array()


cdef extern from "fused_names.h":
    enum:
        FUSED_NONE
        FUSED_RELU
        FUSED_TANH
        FUSED_SIGMOID

cdef extern from "packed.h":
    ctypedef struct fnn_packed:
        pass

cdef extern from "dense.h":
    ctypedef struct fnn_dense_call:
        const fnn_runtime *runtime
        int threads, activation
        long M, inputs, units
        const void *x
        long x_r, x_c
        const void *kernel
        long kernel_r, kernel_c
        const void *bias
        long bias_c
    ctypedef struct fnn_dense_forward:
        fnn_dense_call call
        fnn_packed *packed
        void *y
    ctypedef struct fnn_dense_backward:
        fnn_dense_call call
        const void *dy
        const void *y
        long dy_r, dy_c, y_r, y_c
        void *dx
        void *dkernel
        void *dbias
    ctypedef struct fnn_dense_table:
        int (*forward)(const fnn_dense_forward *) noexcept nogil
        int (*backward)(const fnn_dense_backward *) noexcept nogil

cdef extern from *:
    """
    #include "dense.h"
    static inline const fnn_dense_table *dense_table(int isa, int is_double)
    {
        return FNN_PICK_TABLE(fnn_dense_table, isa, is_double);
    }
    """
    const fnn_dense_table *dense_table(int isa, int is_double) nogil

cdef const fnn_runtime *runtime = fetch_runtime()

cdef dict ACTIVATIONS = {
    None: FUSED_NONE, "relu": FUSED_RELU, "tanh": FUSED_TANH, "sigmoid": FUSED_SIGMOID
}


cdef list set_call(fnn_dense_call *c, x, cnp.ndarray kernel, cnp.ndarray bias, activation):
    """Fills the call; the arrays that its pointers look into must be kept until it returns."""
    cdef cnp.ndarray rows = x.reshape(-1, kernel.shape[0]) if x.size else x[:0].reshape(
        0, kernel.shape[0])
    c.runtime = runtime
    c.threads = runtime.threads()
    c.activation = ACTIVATIONS[activation]
    c.M, c.inputs, c.units = rows.shape[0], kernel.shape[0], kernel.shape[1]
    c.x, c.x_r, c.x_c = data(rows), step(rows, 0), step(rows, 1)
    c.kernel, c.kernel_r, c.kernel_c = data(kernel), step(kernel, 0), step(kernel, 1)
    c.bias = data(bias)
    c.bias_c = step(bias, 0) if bias is not None else 0
    return [rows, kernel, bias]


def forward(x, cnp.ndarray kernel, cnp.ndarray bias, activation, dict packs=None):
    """y [..., O]. `packs`: what calls under `constant_weights` keep, or None."""
    cdef fnn_dense_forward f
    cdef int failed
    cdef object packed = None
    alive = set_call(&f.call, x, kernel, bias, activation)
    f.packed = NULL
    if packs is not None:
        packed = packed_of(packs, ("dense", runtime.isa, x.dtype, place(kernel)), 1, kernel)
        f.packed = <fnn_packed *> <size_t> packed.address
    cdef cnp.ndarray y = empty((*x.shape[: x.ndim - 1], kernel.shape[1]), x.dtype)
    f.y = data(y)
    cdef const fnn_dense_table *table = dense_table(runtime.isa, x.dtype == np.float64)
    with nogil:
        failed = table.forward(&f)
    if failed:
        raise MemoryError("[dense_forward] no memory for the work area")
    del alive, packed
    return y


cdef cnp.ndarray fits(out, shape, dtype):
    """An array to write to: `out` if it is such a one, or a new one."""
    if (out is not None and type(out) is np.ndarray and out.shape == shape and out.dtype == dtype
            and out.flags.c_contiguous and out.flags.behaved):
        return out
    return empty(shape, dtype)


def backward(dy, x, cnp.ndarray kernel, y, activation, bint with_bias, bint need_dx,
             out=(None, None)):
    """`(dx, dkernel, dbias)`; None for what is not needed.

    `out`: arrays for dkernel and dbias that no other argument looks into. Those that do not fit are
    left as they are.
    """
    cdef fnn_dense_backward f
    cdef int failed
    alive = set_call(&f.call, x, kernel, None, activation)
    cdef long M = f.call.M, units = f.call.units
    cdef cnp.ndarray dy_ = dy.reshape(M, units), y_ = y.reshape(M, units)
    cdef cnp.ndarray dx = empty(x.shape, x.dtype) if need_dx else None
    cdef cnp.ndarray dkernel = fits(out[0], (f.call.inputs, units), x.dtype)
    cdef cnp.ndarray dbias = fits(out[1], (units,), x.dtype) if with_bias else None
    f.dy, f.dy_r, f.dy_c = data(dy_), step(dy_, 0), step(dy_, 1)
    f.y, f.y_r, f.y_c = data(y_), step(y_, 0), step(y_, 1)
    f.dx, f.dkernel, f.dbias = data(dx), data(dkernel), data(dbias)
    cdef const fnn_dense_table *table = dense_table(runtime.isa, x.dtype == np.float64)
    with nogil:
        failed = table.backward(&f)
    if failed:
        raise MemoryError("[dense_backward] no memory for the work area")
    del alive
    return dx, dkernel, dbias
