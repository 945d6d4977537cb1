"""Maximum, average and stochastic pooling on NumPy arrays; the kernels are pool.inc.

Arguments are valid and canonical (fastnn.ops has seen to it): `window` is a fastnn.types.Window
without dilation, `data_format` "channels_last" or "channels_first". Every function returns fresh
arrays.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport uint64_t

from kernels.cpu.runtime cimport fetch_runtime, fnn_runtime

from fastnn.kernels.cpu._runtime import empty, empty_like, zeros

cnp.import_array()


cdef extern from "pool.h":
    ctypedef struct fnn_pool_call:
        long images, h, w, channels, oh, ow, kh, kw, sh, sw, top, left
        int count_padding, bytes, relu
        const void *x
        void *y
        void *offsets
        const void *dy
        void *dx
        void *total
        uint64_t seed
    ctypedef void (*pool_kernel)(const fnn_runtime *, const fnn_pool_call *) noexcept nogil
    ctypedef struct fnn_pool_table:
        pool_kernel max_forward, take_backward, average_forward, average_backward, fold
        pool_kernel stochastic_draw, stochastic_mean


cdef extern from *:
    """
    #define pick_pool(isa, is_double) FNN_PICK_TABLE(fnn_pool_table, isa, is_double)
    """
    const fnn_pool_table *pick_pool(int isa, int is_double) nogil


cdef const fnn_runtime *runtime = fetch_runtime()


cdef inline const fnn_pool_table *table_for(cnp.ndarray x) noexcept:
    return pick_pool(runtime.isa, cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64)


cdef inline cnp.ndarray dense(object x):
    """x itself if it is aligned and in C order, else a copy that is."""
    return cnp.PyArray_FROM_OF(x, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)


cdef tuple geometry(fnn_pool_call *call, tuple x_shape, window, str data_format):
    """Fills in the sizes; gives the shape of y."""
    cdef long batch, channels, top, bottom, left, right
    (call.kh, call.kw), (call.sh, call.sw), ((top, bottom), (left, right)), _ = window
    call.top, call.left = top, left
    call.x = call.dy = NULL
    call.y = call.dx = call.offsets = call.total = NULL
    call.count_padding = 0
    call.bytes = call.kh * call.kw <= 256
    call.relu = call.seed = 0
    if data_format == "channels_last":
        batch, call.h, call.w, channels = x_shape
        call.images, call.channels = batch, channels
    else:
        batch, channels, call.h, call.w = x_shape
        call.images, call.channels = batch * channels, 1
    call.oh = (call.h + top + bottom - call.kh) // call.sh + 1
    call.ow = (call.w + left + right - call.kw) // call.sw + 1
    if data_format == "channels_last":
        return batch, call.oh, call.ow, channels
    return batch, channels, call.oh, call.ow


cdef cnp.ndarray new_offsets(tuple shape, fnn_pool_call *call):
    return empty(shape, np.uint8 if call.bytes else np.int32)


def max_forward(cnp.ndarray x, window, str data_format, activation, bint keep):
    """(y, offsets or None); `activation` is None or "relu"."""
    cdef fnn_pool_call call
    cdef tuple shape = geometry(&call, (<object> x).shape, window, data_format)
    call.relu = activation is not None
    if call.relu:
        call.bytes = call.kh * call.kw <= 255  # one number is "no cell"
    cdef cnp.ndarray source = dense(x), y = empty(shape, x.dtype), offsets = None
    cdef const fnn_pool_table *table = table_for(source)
    call.x, call.y = cnp.PyArray_DATA(source), cnp.PyArray_DATA(y)
    if keep:
        offsets = new_offsets(shape, &call)
        call.offsets = cnp.PyArray_DATA(offsets)
    with nogil:
        table.max_forward(runtime, &call)
    return y, offsets


def take_backward(cnp.ndarray dy, offsets, tuple x_shape, window, str data_format):
    """dx of a pooling that took one cell a window."""
    cdef fnn_pool_call call
    cdef cnp.ndarray upstream = dense(dy), cells = dense(offsets)
    cdef cnp.ndarray dx = empty(x_shape, dy.dtype)
    geometry(&call, x_shape, window, data_format)
    cdef const fnn_pool_table *table = table_for(upstream)
    call.dy, call.dx = cnp.PyArray_DATA(upstream), cnp.PyArray_DATA(dx)
    call.offsets, call.bytes = cnp.PyArray_DATA(cells), cnp.PyArray_ITEMSIZE(cells) == 1
    with nogil:
        table.take_backward(runtime, &call)
    return dx


def average_forward(cnp.ndarray x, window, str data_format, bint count_include_pad):
    """y."""
    cdef fnn_pool_call call
    cdef tuple shape = geometry(&call, (<object> x).shape, window, data_format)
    cdef cnp.ndarray source = dense(x), y = empty(shape, x.dtype)
    cdef const fnn_pool_table *table = table_for(source)
    call.x, call.y = cnp.PyArray_DATA(source), cnp.PyArray_DATA(y)
    call.count_padding = count_include_pad
    with nogil:
        table.average_forward(runtime, &call)
    return y


def average_backward(
    cnp.ndarray dy, tuple x_shape, window, str data_format, bint count_include_pad
):
    """dx of average pooling."""
    cdef fnn_pool_call call
    geometry(&call, x_shape, window, data_format)
    cdef cnp.ndarray upstream = dense(dy), dx = empty(x_shape, dy.dtype)
    cdef const fnn_pool_table *table = table_for(upstream)
    call.dy, call.dx = cnp.PyArray_DATA(upstream), cnp.PyArray_DATA(dx)
    call.count_padding = count_include_pad
    with nogil:
        table.average_backward(runtime, &call)
    return dx


def stochastic_forward(cnp.ndarray x, window, str data_format, seed, bint keep):
    """(y, offsets or None); the weighted sum, without offsets, if `seed` is None."""
    cdef fnn_pool_call call
    cdef tuple shape = geometry(&call, (<object> x).shape, window, data_format)
    cdef cnp.ndarray source = dense(x), y = empty(shape, x.dtype), offsets = None
    cdef const fnn_pool_table *table = table_for(source)
    call.x, call.y = cnp.PyArray_DATA(source), cnp.PyArray_DATA(y)
    if seed is None:
        with nogil:
            table.stochastic_mean(runtime, &call)
        return y, None
    call.seed = seed
    if keep:
        offsets = new_offsets(shape, &call)
        call.offsets = cnp.PyArray_DATA(offsets)
    with nogil:
        table.stochastic_draw(runtime, &call)
    return y, offsets


def stochastic_backward(cnp.ndarray dy, cnp.ndarray x, window, str data_format):
    """dx of the weighted sum: with s = dy / sum a, it is 2 a_k (sum s) - (sum s y) over windows."""
    cdef fnn_pool_call call
    cdef tuple shape = geometry(&call, (<object> x).shape, window, data_format)
    cdef cnp.ndarray source = dense(x), y = empty(shape, x.dtype)
    cdef cnp.ndarray total = empty_like(y), share = zeros(shape, x.dtype)
    cdef cnp.ndarray dx = empty_like(source), level = empty_like(dx)
    cdef const fnn_pool_table *table = table_for(source)
    call.x, call.y, call.total = (
        cnp.PyArray_DATA(source), cnp.PyArray_DATA(y), cnp.PyArray_DATA(total))
    with nogil:
        table.stochastic_mean(runtime, &call)
    np.divide(dy, total, out=share, where=np.not_equal(total, 0))
    np.multiply(y, share, out=y)
    call.dy, call.dx = cnp.PyArray_DATA(share), cnp.PyArray_DATA(dx)
    with nogil:
        table.fold(runtime, &call)
    call.dy, call.dx = cnp.PyArray_DATA(y), cnp.PyArray_DATA(level)
    with nogil:
        table.fold(runtime, &call)
    np.multiply(dx, source, out=dx)
    np.multiply(dx, 2, out=dx)
    np.subtract(dx, level, out=dx)
    return dx
