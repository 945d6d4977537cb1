"""Binding of the recurrent kernels (rnn.h): lays out the arrays, releases the GIL, calls."""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t, uint64_t

from kernels.cpu.arrays cimport data, place, step, whole_strides
from kernels.cpu.runtime cimport fetch_runtime, fnn_runtime

from fastnn.kernels.cpu._runtime import empty, packed_of, zeros

cnp.import_array()


cdef extern from "rnn.h":
    enum:
        CELL_SIMPLE_RNN
        CELL_LSTM
        CELL_GRU_AFTER
        CELL_GRU_BEFORE
    ctypedef struct fnn_rnn_call:
        const fnn_runtime *runtime
        int threads, cell, relu, reverse
        long T, B, inputs "I", H, Hp
        const void *x
        long x_t, x_b
        const void *kernel
        const void *recurrent
        long kernel_r, kernel_c, recurrent_r, recurrent_c
        const void *bias
        const void *recurrent_bias
        long bias_c, recurrent_bias_c
        const void *h0
        const void *c0
        const int64_t *lengths
        const uint8_t *mask
        const uint8_t *resets
        double dropout, zone_h, zone_c
        int noisy
        uint64_t seed
    enum:
        FNN_RNN_WAYS
    ctypedef struct fnn_packed:
        pass
    ctypedef struct fnn_rnn_forward:
        fnn_rnn_call call
        fnn_packed *packed
        void *y
        long y_t, y_b
        void *c
        void *gates
        uint64_t *kept
        void *final_h
        void *final_c
    ctypedef struct fnn_rnn_backward:
        fnn_rnn_call call
        const void *y
        long y_t, y_b
        const void *c
        const void *gates
        uint64_t *kept
        const void *dy
        const void *d_states_h
        const void *d_states_c
        long dy_t, dy_b, dsh_t, dsh_b, dsc_t, dsc_b
        const void *d_final_h
        const void *d_final_c
        void *dx
        long dx_t, dx_b
        void *dkernel
        void *drecurrent
        void *dbias
        void *drecurrent_bias
        void *dh0
        void *dc0
    ctypedef struct fnn_rnn_table:
        int (*forward)(const fnn_rnn_forward *) noexcept nogil
        int (*backward)(const fnn_rnn_backward *) noexcept nogil
    long fnn_rnn_padded(long n, long item) nogil

cdef extern from *:
    """
    #include "rnn.h"
    static inline const fnn_rnn_table *rnn_table(int isa, int is_double)
    {
        return FNN_PICK_TABLE(fnn_rnn_table, isa, is_double);
    }
    """
    const fnn_rnn_table *rnn_table(int isa, int is_double) nogil

cdef const fnn_runtime *runtime = fetch_runtime()

cdef dict PLANES = {CELL_SIMPLE_RNN: 0, CELL_LSTM: 4, CELL_GRU_AFTER: 4, CELL_GRU_BEFORE: 3}


cdef cnp.ndarray any_strides(a):
    """The array as it is, or a copy where its strides are not whole elements."""
    if a is None or whole_strides(a):
        return a
    return np.ascontiguousarray(a)


cdef cnp.ndarray rows_of(a):
    """The array as it is where its last axis is contiguous, or a copy."""
    cdef cnp.ndarray b = a
    if b is None:
        return None
    if (cnp.PyArray_STRIDE(b, cnp.PyArray_NDIM(b) - 1) == cnp.PyArray_ITEMSIZE(b)
            or cnp.PyArray_DIM(b, cnp.PyArray_NDIM(b) - 1) == 1) and whole_strides(b):
        return b
    return np.ascontiguousarray(b)


cdef cnp.ndarray dense(a, dtype):
    return None if a is None else np.ascontiguousarray(a, dtype)


cdef cnp.ndarray padded(a, long Hp):
    """Saved rows `[..., H]` as `[..., Hp]`: the array behind our own view, or a padded copy."""
    cdef cnp.ndarray base
    if a is None:
        return None
    shape = tuple(a.shape)
    wide = (*shape[: len(shape) - 1], Hp)
    base = a.base if isinstance(a.base, np.ndarray) else None
    if (base is not None and tuple((<object> base).shape) == wide
            and cnp.PyArray_DATA(base) == cnp.PyArray_DATA(a)
            and cnp.PyArray_IS_C_CONTIGUOUS(base) and base.dtype == a.dtype):
        return base
    base = zeros(wide, a.dtype)
    base[..., : shape[len(shape) - 1]] = a
    return base


cdef int states_with_noise(spec):
    """How many states zoneout holds at random."""
    return 0 if spec.seed is None else (spec.zoneout[0] > 0) + (spec.zoneout[1] > 0)


cdef cnp.ndarray like(x, long n, bint cleared):
    """A fresh `[T, B, n]` in the memory order of x."""
    make = zeros if cleared else empty
    T, B = x.shape[0], x.shape[1]
    if x.strides[0] < x.strides[1]:
        return make((B, T, n), x.dtype).transpose(1, 0, 2)
    return make((T, B, n), x.dtype)


cdef cnp.ndarray blocked(a, long Hp):
    """Saved gates `[T, Hp / line, B, S, line]` as they lie; `[T, B, S, H]` put in that order."""
    if a is None:
        return None
    if a.ndim == 5:
        return np.ascontiguousarray(a)
    cdef long line = 64 // a.dtype.itemsize
    wide = padded(a, Hp)
    T, B, S = a.shape[:3]
    return np.ascontiguousarray(wide.reshape(T, B, S, Hp // line, line).transpose(0, 3, 1, 2, 4))


cdef list set_call(fnn_rnn_call *c, x, weights, initial, spec):
    """Fills the call; the arrays that its pointers look into must be kept until it returns."""
    cdef cnp.ndarray x_, W, U, b, rb, h0 = None, c0 = None, lengths, mask, resets
    dtype = x.dtype
    x_ = rows_of(x)
    W, U = any_strides(weights.kernel), any_strides(weights.recurrent_kernel)
    b, rb = any_strides(weights.bias), any_strides(weights.recurrent_bias)
    if initial is not None:
        if spec.cell == "lstm":
            h0, c0 = dense(initial[0], dtype), dense(initial[1], dtype)
        else:
            h0 = dense(initial, dtype)
    lengths = dense(spec.lengths, np.int64)
    mask, resets = dense(spec.mask, np.bool_), dense(spec.resets, np.bool_)
    c.runtime = runtime
    c.threads = runtime.threads()
    if spec.cell == "lstm":
        c.cell = CELL_LSTM
    elif spec.cell == "gru":
        c.cell = CELL_GRU_AFTER if spec.reset_after else CELL_GRU_BEFORE
    else:
        c.cell = CELL_SIMPLE_RNN
    c.relu = spec.activation == "relu"
    c.reverse = spec.reverse
    c.T, c.B, c.inputs = x_.shape[0], x_.shape[1], x_.shape[2]
    c.H = U.shape[0]
    c.Hp = fnn_rnn_padded(c.H, x_.itemsize)
    c.x = data(x_)
    c.x_t, c.x_b = step(x_, 0), step(x_, 1)
    c.kernel, c.recurrent = data(W), data(U)
    c.kernel_r, c.kernel_c = step(W, 0), step(W, 1)
    c.recurrent_r, c.recurrent_c = step(U, 0), step(U, 1)
    c.bias, c.recurrent_bias = data(b), data(rb)
    c.bias_c = step(b, 0) if b is not None else 0
    c.recurrent_bias_c = step(rb, 0) if rb is not None else 0
    c.h0, c.c0 = data(h0), data(c0)
    c.lengths = <const int64_t *> data(lengths)
    c.mask = <const uint8_t *> data(mask)
    c.resets = <const uint8_t *> data(resets)
    c.dropout = spec.recurrent_dropout
    c.zone_h, c.zone_c = spec.zoneout
    c.noisy = spec.seed is not None
    c.seed = (spec.seed or 0) & 0xFFFFFFFFFFFFFFFF
    return [x_, W, U, b, rb, h0, c0, lengths, mask, resets]


# ------------------------------------------------------------------ calls, one or two at once

ctypedef int (*rnn_function)(const void *) noexcept nogil

cdef struct Pair:
    rnn_function function
    const void *call[2]
    int failed[2]


cdef void run_one(void *context, long task) noexcept nogil:
    cdef Pair *pair = <Pair *> context
    pair.failed[task] = pair.function(pair.call[task])


cdef int run_two(rnn_function first, const void *one, rnn_function second, const void *other,
                 bint at_once) noexcept nogil:
    cdef Pair pair
    if not at_once:
        return first(one) or second(other)
    pair.function, pair.call[0], pair.call[1] = first, one, other
    pair.failed[0] = pair.failed[1] = 0
    runtime.run(run_one, &pair, 2, 2)
    return pair.failed[0] or pair.failed[1]


cdef bint share(fnn_rnn_call *one, fnn_rnn_call *other) noexcept nogil:
    """Whether two threads take a call each. More are better used together, unless rows are few."""
    if one.threads < 2 or one.threads > 2 and max(one.B, other.B) >= 8 * one.threads:
        return False
    one.threads = other.threads = 1
    return True


cdef class _Forward:
    """A forward call and its arrays."""

    cdef fnn_rnn_forward f
    cdef list alive
    cdef object y, c, gates, kept, final_h, final_c
    cdef object packed

    def __cinit__(self, x, weights, initial, spec, keep, packs):
        cdef bint lstm = spec.cell == "lstm"
        cdef cnp.ndarray y
        cdef object key  # declared: Cython 3.2 does not come to an end inferring it
        self.alive = set_call(&self.f.call, x, weights, initial, spec)
        if packs is not None:
            key = ("rnn", runtime.isa, self.f.call.cell, x.dtype, place(weights[0]),
                   place(weights[1]), place(weights[2]), place(weights[3]))
            self.packed = packed_of(packs, key, FNN_RNN_WAYS, weights)
            self.f.packed = <fnn_packed *> <size_t> self.packed.address
        cdef long T = self.f.call.T, B = self.f.call.B, H = self.f.call.H, Hp = self.f.call.Hp
        cdef long planes = PLANES[self.f.call.cell], line = 64 // x.dtype.itemsize
        make = zeros if spec.lengths is not None else empty
        self.y = y = like(x, H, spec.lengths is not None)
        self.final_h = empty((B, H), x.dtype)
        if lstm:
            self.final_c = empty((B, H), x.dtype)
            if keep is not None:
                self.c = make((T, B, Hp), x.dtype)
        if keep == "gates" and planes:
            self.gates = make((T, Hp // line, B, planes, line), x.dtype)
        if keep is not None and states_with_noise(spec):
            self.kept = make((T, B, states_with_noise(spec), (H + 63) // 64), np.uint64)
        self.f.kept = <uint64_t *> data(self.kept)
        self.f.y, self.f.y_t, self.f.y_b = data(y), step(y, 0), step(y, 1)
        self.f.c, self.f.gates = data(self.c), data(self.gates)
        self.f.final_h, self.f.final_c = data(self.final_h), data(self.final_c)

    cdef rnn_function function(self):
        return <rnn_function> rnn_table(runtime.isa, self.y.dtype == np.float64).forward

    cdef tuple result(self, int failed):
        if failed:
            raise MemoryError("[rnn_forward] no memory for the work area")
        cdef long H = self.f.call.H
        return (self.y, self.final_h, self.final_c, None if self.c is None else self.c[..., :H],
                self.gates, self.kept)


def forward(x, weights, initial, spec, keep, packs=None):
    """`(y, final_h, final_c, c, gates, kept)`; the last four None where the cell or keep has none.

    `gates` `[T, Hp / line, B, planes, line]`, a line being 64 bytes and Hp H in whole lines.
    `kept` are the bits of zoneout `[T, B, states with noise, ceil(H / 64)]`, uint64.

    `packs` is a dict in which packed weights are kept from call to call, if they will not change.
    """
    cdef _Forward one = _Forward(x, weights, initial, spec, keep, packs)
    cdef rnn_function function = one.function()
    cdef int failed
    with nogil:
        failed = function(&one.f)
    return one.result(failed)


def forward_pair(first, second, packs=None):
    """Two of `forward`, given as their arguments."""
    cdef _Forward one = _Forward(*first, packs), other = _Forward(*second, packs)
    cdef rnn_function function = one.function(), other_function = other.function()
    cdef bint at_once = function == other_function and share(&one.f.call, &other.f.call)
    cdef int failed
    with nogil:
        failed = run_two(function, &one.f, other_function, &other.f, at_once)
    return one.result(failed), other.result(failed)


cdef class _Backward:
    """A backward call and its arrays."""

    cdef fnn_rnn_backward f
    cdef list alive
    cdef object dx, dW, dU, db, drb, dh0, dc0

    def __cinit__(self, dy, d_final_h, d_final_c, d_states_h, d_states_c, saved, bint need_dx):
        cdef fnn_rnn_backward *f = &self.f
        cdef cnp.ndarray y, c, gates, dy_, dsh, dsc, dfh, dfc, dx
        cdef bint lstm = saved.spec.cell == "lstm"
        x, w, dtype = saved.x, saved.weights, saved.x.dtype
        self.alive = set_call(&f.call, x, w, saved.initial, saved.spec)
        cdef long B = f.call.B, inputs = f.call.inputs, H = f.call.H, GH = w.kernel.shape[1]
        y, c, gates = rows_of(saved.y), padded(saved.c, f.call.Hp), blocked(saved.gates, f.call.Hp)
        dy_, dsh, dsc = rows_of(dy), rows_of(d_states_h), rows_of(d_states_c)
        dfh, dfc = dense(d_final_h, dtype), dense(d_final_c, dtype)
        self.alive += [y, c, gates, saved.kept, dy_, dsh, dsc, dfh, dfc]
        if need_dx:
            self.dx = dx = like(x, inputs, saved.spec.lengths is not None)
            f.dx, f.dx_t, f.dx_b = data(dx), step(dx, 0), step(dx, 1)
        self.dW, self.dU = empty((inputs, GH), dtype), empty((H, GH), dtype)
        if w.bias is not None:
            self.db = empty(GH, dtype)
        if w.recurrent_bias is not None:
            self.drb = empty(GH, dtype)
        self.dh0 = empty((B, H), dtype)
        if lstm:
            self.dc0 = empty((B, H), dtype)
        f.y, f.y_t, f.y_b = data(y), step(y, 0), step(y, 1)
        f.c, f.gates = data(c), data(gates)
        f.kept = <uint64_t *> data(saved.kept)
        f.dy, f.d_states_h, f.d_states_c = data(dy_), data(dsh), data(dsc)
        if dy_ is not None:
            f.dy_t, f.dy_b = step(dy_, 0), step(dy_, 1)
        if dsh is not None:
            f.dsh_t, f.dsh_b = step(dsh, 0), step(dsh, 1)
        if dsc is not None:
            f.dsc_t, f.dsc_b = step(dsc, 0), step(dsc, 1)
        f.d_final_h, f.d_final_c = data(dfh), data(dfc)
        f.dkernel, f.drecurrent = data(self.dW), data(self.dU)
        f.dbias, f.drecurrent_bias = data(self.db), data(self.drb)
        f.dh0, f.dc0 = data(self.dh0), data(self.dc0)

    cdef rnn_function function(self):
        return <rnn_function> rnn_table(runtime.isa, self.dW.dtype == np.float64).backward

    cdef tuple result(self, int failed):
        if failed:
            raise MemoryError("[rnn_backward] no memory for the work area")
        return self.dx, self.dW, self.dU, self.db, self.drb, self.dh0, self.dc0


def backward(dy, d_final_h, d_final_c, d_states_h, d_states_c, saved, need_dx):
    """`(dx or None, dkernel, drecurrent_kernel, dbias, drecurrent_bias, dh0, dc0)`."""
    cdef _Backward one = _Backward(
        dy, d_final_h, d_final_c, d_states_h, d_states_c, saved, need_dx)
    cdef rnn_function function = one.function()
    cdef int failed
    with nogil:
        failed = function(&one.f)
    return one.result(failed)


def backward_pair(first, second):
    """Two of `backward`, given as their arguments."""
    cdef _Backward one = _Backward(*first), other = _Backward(*second)
    cdef rnn_function function = one.function(), other_function = other.function()
    cdef bint at_once = function == other_function and share(&one.f.call, &other.f.call)
    cdef int failed
    with nogil:
        failed = run_two(function, &one.f, other_function, &other.f, at_once)
    return one.result(failed), other.result(failed)
