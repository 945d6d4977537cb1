"""Binding of the convolution kernels (conv.h): lays out the arrays, releases the GIL, calls."""

import os

import numpy as np

cimport numpy as cnp

from kernels.cpu.arrays cimport data, place
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

cdef extern from "conv.h":
    enum:
        ENGINE_AUTO
        ENGINE_CHANNELS
        ENGINE_PIXELS
        ENGINE_TAPS
        ENGINE_WINOGRAD
        ENGINE_AMX
        ENGINE_LINES
        FNN_CONV_WAYS
    ctypedef struct fnn_window:
        long size[2]
        long step[2]
        long before[2]
        long dilation[2]
    ctypedef struct fnn_conv_call:
        const fnn_runtime *runtime
        int threads, activation, engine, winograd
        long batch, height, width, out_height, out_width, groups, inner, outer
        fnn_window window
        const void *x
        long x_step[4]
        const void *kernel
        long kernel_step[4]
    ctypedef struct fnn_conv_forward:
        fnn_conv_call call
        const void *bias
        long bias_step
        fnn_packed *packed
        void *y
        long y_step[4]
    ctypedef struct fnn_conv_backward:
        fnn_conv_call call
        const void *dy
        const void *y
        long y_step[4]
        void *dx
        long dx_step[4]
        void *dkernel
        void *dbias
    ctypedef struct fnn_columns_call:
        const fnn_runtime *runtime
        int threads
        long batch, channels, height, width, out_height, out_width
        fnn_window window
        void *image
        long image_step[4]
        void *columns
        long columns_step[2]
    ctypedef struct fnn_conv_table:
        int (*forward)(const fnn_conv_forward *) noexcept nogil
        int (*backward)(const fnn_conv_backward *) noexcept nogil
        int (*im2col)(const fnn_columns_call *) noexcept nogil
        int (*col2im)(const fnn_columns_call *) noexcept nogil
    bint fnn_conv_leaves_gaps(const fnn_window *) nogil

cdef extern from *:
    """
    #include "conv.h"
    static inline const fnn_conv_table *conv_table(int isa, int is_double)
    {
        return FNN_PICK_TABLE(fnn_conv_table, isa, is_double);
    }
    """
    const fnn_conv_table *conv_table(int isa, int is_double) nogil

cdef const fnn_runtime *runtime = fetch_runtime()

cdef dict ACTIVATIONS = {
    None: FUSED_NONE, "relu": FUSED_RELU, "tanh": FUSED_TANH, "sigmoid": FUSED_SIGMOID
}


cdef dict ENGINES = {
    "auto": ENGINE_AUTO, "channels": ENGINE_CHANNELS, "pixels": ENGINE_PIXELS,
    "taps": ENGINE_TAPS, "winograd": ENGINE_WINOGRAD, "amx": ENGINE_AMX,
    "lines": ENGINE_LINES,
}
cdef int engine = ENGINE_AUTO
cdef bint winograd = True


def _set_winograd(bint allowed):
    """Whether Winograd's convolutions may be chosen from now on."""
    global winograd
    winograd = allowed


cdef read_variable():
    value = os.environ.get("FASTNN_WINOGRAD", "").strip() or "1"
    if value not in ("0", "1"):
        raise ValueError(f"[conv] FASTNN_WINOGRAD={value!r} given; 0 or 1 is needed")
    _set_winograd(value == "1")


read_variable()


def _set_engine(str name):
    """The engine of every product that it suits from now on; "auto" chooses. For tests."""
    global engine
    engine = ENGINES[name]


cdef void steps(long *out, cnp.ndarray a) noexcept:
    """Strides in numbers; an axis of one number counts as contiguous with what follows it."""
    cdef int axis
    cdef long item = cnp.PyArray_ITEMSIZE(a), following = 1
    for axis in reversed(range(cnp.PyArray_NDIM(a))):
        out[axis] = cnp.PyArray_STRIDE(a, axis) // item
        if cnp.PyArray_DIM(a, axis) == 1:
            out[axis] = following
        following = out[axis] * cnp.PyArray_DIM(a, axis)


cdef list set_window(fnn_window *w, window, long height, long width):
    """Fills the window; gives the output's height and width."""
    cdef int axis
    cdef list out = []
    for axis, size in ((0, height), (1, width)):
        w.size[axis], w.step[axis] = window.kernel[axis], window.strides[axis]
        w.before[axis], w.dilation[axis] = window.padding[axis][0], window.dilation[axis]
        span = (w.size[axis] - 1) * w.dilation[axis] + 1
        out.append((size + sum(window.padding[axis]) - span) // w.step[axis] + 1)
    return out


cdef inline last(a, data_format):
    """The image as a view with its channels last."""
    return a if data_format == "channels_last" else a.transpose(0, 2, 3, 1)


cdef set_call(fnn_conv_call *c, x, cnp.ndarray kernel, window, long groups, data_format,
              activation):
    cdef cnp.ndarray image = last(x, data_format)
    c.runtime = runtime
    c.threads = runtime.threads()
    c.activation = ACTIVATIONS[activation]
    c.engine = engine
    c.winograd = winograd
    c.batch, c.height, c.width = image.shape[0], image.shape[1], image.shape[2]
    c.groups, c.inner, c.outer = groups, kernel.shape[2], kernel.shape[3] // groups
    c.out_height, c.out_width = set_window(&c.window, window, c.height, c.width)
    c.x = data(image)
    steps(c.x_step, image)
    c.kernel = data(kernel)
    steps(c.kernel_step, kernel)


cdef fresh(shape, data_format, dtype, bint zeros=False):
    """A new image [B, h, w, C], in the memory order of the data format."""
    b, h, w, c = shape
    image = empty((b, h, w, c) if data_format == "channels_last" else (b, c, h, w), dtype)
    if zeros:
        image.fill(0)
    return image


def forward(x, cnp.ndarray kernel, cnp.ndarray bias, window, long groups, data_format, activation,
            dict packs=None):
    """y [B, oh, ow, O] or [B, O, oh, ow]. `packs`: what `constant_weights` keeps, or None."""
    cdef fnn_conv_forward f
    cdef int failed
    cdef object packed = None
    f.packed = NULL
    if packs is not None:
        packed = packed_of(packs, ("conv", runtime.isa, x.dtype, groups, window, place(kernel)),
                           FNN_CONV_WAYS, kernel)
        f.packed = <fnn_packed *> <size_t> packed.address
    set_call(&f.call, x, kernel, window, groups, data_format, activation)
    y = fresh((f.call.batch, f.call.out_height, f.call.out_width, kernel.shape[3]),
              data_format, x.dtype)
    cdef cnp.ndarray image = last(y, data_format)
    f.bias = data(bias)
    f.bias_step = cnp.PyArray_STRIDE(bias, 0) // bias.itemsize if bias is not None else 0
    f.y = data(image)
    steps(f.y_step, image)
    cdef const fnn_conv_table *table = conv_table(runtime.isa, x.dtype == np.float64)
    with nogil:
        failed = table.forward(&f)
    if failed:
        raise MemoryError("[conv2d_forward] no memory for the work area")
    del packed
    return y


def backward(dy, x, cnp.ndarray kernel, y, window, long groups, data_format, activation,
             bint with_bias, bint need_dx):
    """`(dx, dkernel, dbias)`; None for what is not needed."""
    cdef fnn_conv_backward f
    cdef int failed
    set_call(&f.call, x, kernel, window, groups, data_format, activation)
    if activation is None:
        y = dy
    elif dy.strides != y.strides:
        dy, y = np.ascontiguousarray(dy), np.ascontiguousarray(y)
    cdef cnp.ndarray dy_ = last(dy, data_format), y_ = last(y, data_format)
    dx = None
    cdef cnp.ndarray dx_ = None
    if need_dx:
        dx = fresh((f.call.batch, f.call.height, f.call.width, groups * f.call.inner), data_format,
                   x.dtype, fnn_conv_leaves_gaps(&f.call.window))
        dx_ = last(dx, data_format)
        steps(f.dx_step, dx_)
    cdef cnp.ndarray dkernel = empty((<object> kernel).shape, x.dtype)
    cdef cnp.ndarray dbias = empty(kernel.shape[3], x.dtype) if with_bias else None
    f.dy, f.y, f.dx = data(dy_), data(y_), data(dx_)
    steps(f.y_step, dy_)
    f.dkernel, f.dbias = data(dkernel), data(dbias)
    cdef const fnn_conv_table *table = conv_table(runtime.isa, x.dtype == np.float64)
    with nogil:
        failed = table.backward(&f)
    if failed:
        raise MemoryError("[conv2d_backward] no memory for the work area")
    return dx, dkernel, dbias


cdef set_columns(fnn_columns_call *c, x_shape, window):
    c.runtime = runtime
    c.threads = runtime.threads()
    c.batch, c.channels, c.height, c.width = x_shape
    c.out_height, c.out_width = set_window(&c.window, window, c.height, c.width)


def im2col(cnp.ndarray x, window):
    """[B*oh*ow, C*kh*kw]."""
    cdef fnn_columns_call c
    set_columns(&c, (<object> x).shape, window)
    cdef cnp.ndarray columns = empty(
        (c.batch * c.out_height * c.out_width, c.channels * c.window.size[0] * c.window.size[1]),
        x.dtype)
    c.image, c.columns = data(x), data(columns)
    steps(c.image_step, x)
    cdef const fnn_conv_table *table = conv_table(runtime.isa, x.dtype == np.float64)
    with nogil:
        table.im2col(&c)
    return columns


def col2im(cnp.ndarray cols, x_shape, window):
    """[B, C, h, w]."""
    cdef fnn_columns_call c
    set_columns(&c, x_shape, window)
    cdef cnp.ndarray image = empty(x_shape, cols.dtype)
    c.image, c.columns = data(image), data(cols)
    steps(c.columns_step, cols)
    cdef const fnn_conv_table *table = conv_table(runtime.isa, cols.dtype == np.float64)
    with nogil:
        table.col2im(&c)
    return image
