"""Activations, softmax, noise, embedding and losses on NumPy arrays; the kernels are pointwise.inc.

Arguments are valid and canonical (fastnn.ops has seen to it); every function returns fresh arrays,
but for the steps of optimizers, which work in place.
"""

import numpy as np

cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from kernels.cpu.arrays cimport data
from kernels.cpu.runtime cimport fetch_runtime, fnn_runtime

from fastnn.kernels.cpu._runtime import empty, empty_like, zeros

cnp.import_array()


cdef extern from "pointwise.h":
    enum:
        ACT_RELU, ACT_LEAKY_RELU, ACT_ELU, ACT_SELU, ACT_TANH, ACT_SIGMOID
        ACT_HARD_SIGMOID, ACT_SOFTPLUS, ACT_SOFTSIGN, ACT_EXPONENTIAL, ACT_SILU, ACT_GELU
        LOSS_SQUARED, LOSS_ABSOLUTE, LOSS_HUBER, LOSS_BINARY, LOSS_BINARY_LOGITS
        LOSS_CATEGORICAL, LOSS_CATEGORICAL_LOGITS, LOSS_SPARSE, LOSS_SPARSE_LOGITS
        VMATH_EXP, VMATH_EXPM1, VMATH_LOG, VMATH_LOG1P, VMATH_LOG1P_UNIT, VMATH_TANH
        VMATH_SIGMOID, VMATH_NORMAL
        STEP_SGD, STEP_NESTEROV, STEP_RMSPROP, STEP_ADAM
    ctypedef struct fnn_loss_call:
        int kind
        double delta
        const void *y_true
        const int64_t *labels
        const void *y_pred
        const void *weight
        void *grad
        double *partial
        long rows, n
    ctypedef struct fnn_step_call:
        int kind
        long n
        const void *gradient
        void *weight
        void *slots[3]
        double rate, momentum, share_m, share_v, epsilon
    long fnn_loss_blocks(long rows, long n) nogil
    ctypedef struct fnn_pointwise_table:
        void (*activate)(const fnn_runtime *, int, const void *, void *, long) noexcept nogil
        void (*activate_gradient)(
            const fnn_runtime *, int, const void *, const void *, void *, long) noexcept nogil
        void (*softmax)(const fnn_runtime *, int, const void *, void *, long, long) noexcept nogil
        void (*softmax_gradient)(
            const fnn_runtime *, int, const void *, const void *, void *, long, long) noexcept nogil
        void (*dropout)(
            const fnn_runtime *, double, uint64_t, const void *, void *, long) noexcept nogil
        void (*dropout_mask)(const fnn_runtime *, double, uint64_t, uint8_t *, long) noexcept nogil
        void (*uniform)(const fnn_runtime *, uint64_t, uint32_t, void *, long) noexcept nogil
        void (*gather)(
            const fnn_runtime *, const int64_t *, const void *, void *, long, long) noexcept nogil
        void (*scatter)(const fnn_runtime *, const int64_t *, const int64_t *, const void *,
                        void *, long, long) noexcept nogil
        double (*loss)(const fnn_runtime *, const fnn_loss_call *) noexcept nogil
        void (*optimizer_step)(const fnn_runtime *, const fnn_step_call *) noexcept nogil
        void (*vmath)(const fnn_runtime *, int, const void *, void *, long) noexcept nogil


cdef extern from *:
    """
    #define pick_pointwise(isa, is_double) FNN_PICK_TABLE(fnn_pointwise_table, isa, is_double)
    """
    const fnn_pointwise_table *pick_pointwise(int isa, int is_double) nogil


cdef const fnn_runtime *runtime = fetch_runtime()

cdef dict ACTIVATIONS = {
    "relu": ACT_RELU, "leaky_relu": ACT_LEAKY_RELU, "elu": ACT_ELU,
    "selu": ACT_SELU, "tanh": ACT_TANH, "sigmoid": ACT_SIGMOID, "hard_sigmoid": ACT_HARD_SIGMOID,
    "softplus": ACT_SOFTPLUS, "softsign": ACT_SOFTSIGN, "exponential": ACT_EXPONENTIAL,
    "silu": ACT_SILU, "gelu": ACT_GELU,
}
cdef dict SOFTMAXES = {"softmax": 0, "log_softmax": 1}
cdef dict LOSSES = {  # (from probabilities or numbers, from logits)
    "mean_squared_error": (LOSS_SQUARED, LOSS_SQUARED),
    "mean_absolute_error": (LOSS_ABSOLUTE, LOSS_ABSOLUTE),
    "huber": (LOSS_HUBER, LOSS_HUBER),
    "binary_crossentropy": (LOSS_BINARY, LOSS_BINARY_LOGITS),
    "categorical_crossentropy": (LOSS_CATEGORICAL, LOSS_CATEGORICAL_LOGITS),
    "sparse_categorical_crossentropy": (LOSS_SPARSE, LOSS_SPARSE_LOGITS),
}
cdef dict FUNCTIONS = {
    "exp": VMATH_EXP, "expm1": VMATH_EXPM1, "log": VMATH_LOG, "log1p": VMATH_LOG1P,
    "log1p_unit": VMATH_LOG1P_UNIT,
    "tanh": VMATH_TANH, "sigmoid": VMATH_SIGMOID, "normal": VMATH_NORMAL,
}


cdef inline const fnn_pointwise_table *table_for(cnp.ndarray x) noexcept:
    return pick_pointwise(runtime.isa, cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64)


cdef inline cnp.ndarray dense(object x):
    """x itself if it is aligned and in C order, else a copy that is."""
    return cnp.PyArray_FROM_OF(x, cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED)


cdef inline bint same_order(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether equal positions in memory are equal indices: the strides agree."""
    cdef int axis
    for axis in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIM(a, axis) == 1:
            continue
        if cnp.PyArray_STRIDE(a, axis) != cnp.PyArray_STRIDE(b, axis):
            return False
    return True


cdef inline cnp.ndarray packed(cnp.ndarray x, cnp.ndarray like):
    """x in the memory order of `like`, which has no gaps; x itself where it is so already."""
    if cnp.PyArray_ISALIGNED(x) and same_order(x, like):
        return x
    copy = empty_like(like)
    np.copyto(copy, x)
    return copy


def activation_forward(cnp.ndarray x, str activation):
    cdef const fnn_pointwise_table *table = table_for(x)
    cdef cnp.ndarray y
    cdef int code
    cdef long n, rows
    if activation in SOFTMAXES:
        x = dense(x)
        y = empty_like(x)
        n = cnp.PyArray_DIM(x, cnp.PyArray_NDIM(x) - 1)
        rows = cnp.PyArray_SIZE(x) // n
        code = SOFTMAXES[activation]
        with nogil:
            table.softmax(runtime, code, cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), rows, n)
        return y
    if activation == "linear":
        return x.copy(order="K")
    y = empty_like(x)  # in x's memory order: a transposed x costs no copy
    x = packed(x, y)
    code = ACTIVATIONS[activation]
    n = cnp.PyArray_SIZE(x)
    with nogil:
        table.activate(runtime, code, cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), n)
    return y


def activation_backward(cnp.ndarray dy, cnp.ndarray kept, str activation):
    cdef const fnn_pointwise_table *table = table_for(dy)
    cdef cnp.ndarray dx
    cdef int code
    cdef long n, rows
    if activation in SOFTMAXES:
        dy, kept = dense(dy), dense(kept)
        dx = empty_like(dy)
        n = cnp.PyArray_DIM(dy, cnp.PyArray_NDIM(dy) - 1)
        rows = cnp.PyArray_SIZE(dy) // n
        code = SOFTMAXES[activation]
        with nogil:
            table.softmax_gradient(
                runtime, code, cnp.PyArray_DATA(dy), cnp.PyArray_DATA(kept), cnp.PyArray_DATA(dx),
                rows, n)
        return dx
    if activation == "linear":
        return dy.copy(order="K")
    dx = empty_like(kept)
    dy, kept = packed(dy, dx), packed(kept, dx)
    code = ACTIVATIONS[activation]
    n = cnp.PyArray_SIZE(dy)
    with nogil:
        table.activate_gradient(
            runtime, code, cnp.PyArray_DATA(dy), cnp.PyArray_DATA(kept), cnp.PyArray_DATA(dx), n)
    return dx


def dropout(cnp.ndarray x, double rate, uint64_t seed, tuple noise_shape):
    """The forward pass, and for dy the backward pass."""
    cdef const fnn_pointwise_table *table = table_for(x)
    cdef cnp.ndarray y, mask
    cdef long n
    if noise_shape == (<object> x).shape:
        x = dense(x)
        y = empty_like(x)
        n = cnp.PyArray_SIZE(x)
        with nogil:
            table.dropout(runtime, rate, seed, cnp.PyArray_DATA(x), cnp.PyArray_DATA(y), n)
        return y
    mask = empty(noise_shape, dtype=np.bool_)
    n = cnp.PyArray_SIZE(mask)
    with nogil:
        table.dropout_mask(runtime, rate, seed, <uint8_t *> cnp.PyArray_DATA(mask), n)
    y = x * (<object> x).dtype.type(1.0 / (1.0 - rate))
    np.copyto(y, 0, where=mask)
    return y


def random_uniform(tuple shape, uint64_t seed, uint32_t stream, str dtype):
    cdef cnp.ndarray y = empty(shape, dtype=dtype)
    cdef const fnn_pointwise_table *table = table_for(y)
    cdef long n = cnp.PyArray_SIZE(y)
    with nogil:
        table.uniform(runtime, seed, stream, cnp.PyArray_DATA(y), n)
    return y


def embedding_forward(indices, cnp.ndarray table):
    cdef cnp.ndarray rows = dense(indices), source = dense(table)
    cdef cnp.ndarray y = empty((*indices.shape, (<object> table).shape[1]), dtype=table.dtype)
    cdef const fnn_pointwise_table *kernels = table_for(source)
    cdef long n = cnp.PyArray_SIZE(rows), width = cnp.PyArray_DIM(source, 1)
    with nogil:
        kernels.gather(runtime, <const int64_t *> cnp.PyArray_DATA(rows), cnp.PyArray_DATA(source),
                       cnp.PyArray_DATA(y), n, width)
    return y


def embedding_backward(cnp.ndarray dy, indices, tuple table_shape):
    cdef cnp.ndarray rows = dense(indices)
    cdef cnp.ndarray dtable = empty(table_shape, dtype=dy.dtype)
    cdef cnp.ndarray starts = zeros(table_shape[0] + 2, dtype=np.int64)
    cdef cnp.ndarray order = empty(rows.size, dtype=np.int64)
    cdef const fnn_pointwise_table *kernels = table_for(dy)
    cdef const int64_t *index = <const int64_t *> cnp.PyArray_DATA(rows)
    cdef int64_t *start = <int64_t *> cnp.PyArray_DATA(starts)
    cdef int64_t *entry = <int64_t *> cnp.PyArray_DATA(order)
    cdef long n = cnp.PyArray_SIZE(rows), height = table_shape[0], width = table_shape[1], i
    dy = dense(dy)
    with nogil:
        # A stable counting sort. While it runs, start[v + 1] is where the next entry of v goes.
        for i in range(n):
            start[index[i] + 2] += 1
        for i in range(2, height + 1):
            start[i] += start[i - 1]
        for i in range(n):
            entry[start[index[i] + 1]] = i
            start[index[i] + 1] += 1
        kernels.scatter(runtime, start, entry, cnp.PyArray_DATA(dy), cnp.PyArray_DATA(dtable),
                        height, width)
    return dtable


def loss_forward(cnp.ndarray y_true, cnp.ndarray y_pred, str loss, bint from_logits, double delta,
                 sample_weight, bint keep):
    """(value, gradient by y_pred or None)."""
    cdef const fnn_pointwise_table *table = table_for(y_pred)
    cdef cnp.ndarray target = dense(y_true), prediction = dense(y_pred), weight, grad, partial
    cdef fnn_loss_call call
    cdef double value
    grad = empty_like(prediction) if keep else None
    call.n = cnp.PyArray_DIM(prediction, cnp.PyArray_NDIM(prediction) - 1)
    call.rows = cnp.PyArray_SIZE(prediction) // call.n
    if call.rows == 0:
        return 0.0, grad
    partial = np.empty(fnn_loss_blocks(call.rows, call.n))
    call.kind = LOSSES[loss][from_logits]
    call.delta = delta
    call.y_true = call.labels = NULL
    if call.kind == LOSS_SPARSE or call.kind == LOSS_SPARSE_LOGITS:
        call.labels = <const int64_t *> cnp.PyArray_DATA(target)
    else:
        call.y_true = cnp.PyArray_DATA(target)
    call.y_pred = cnp.PyArray_DATA(prediction)
    call.weight = NULL
    if sample_weight is not None:
        weight = dense(sample_weight)
        call.weight = cnp.PyArray_DATA(weight)
    call.grad = cnp.PyArray_DATA(grad) if keep else NULL
    call.partial = <double *> cnp.PyArray_DATA(partial)
    with nogil:
        value = table.loss(runtime, &call)
    return value, grad


cdef void make_step(fnn_step_call *call, cnp.ndarray weight, cnp.ndarray gradient,
                    cnp.ndarray first, cnp.ndarray second, cnp.ndarray third):
    """One step in place; all in C order and of one dtype, slots may be None."""
    cdef const fnn_pointwise_table *table = table_for(weight)
    call.n = cnp.PyArray_SIZE(weight)
    call.gradient, call.weight = data(gradient), data(weight)
    call.slots[0], call.slots[1], call.slots[2] = data(first), data(second), data(third)
    with nogil:
        table.optimizer_step(runtime, call)


def sgd_update(cnp.ndarray weight, cnp.ndarray gradient, cnp.ndarray velocity, double rate,
               double momentum, bint nesterov):
    cdef fnn_step_call call
    call.kind = STEP_NESTEROV if nesterov else STEP_SGD
    call.rate, call.momentum = rate, momentum
    make_step(&call, weight, gradient, velocity, None, None)


def rmsprop_update(cnp.ndarray weight, cnp.ndarray gradient, cnp.ndarray velocity,
                   cnp.ndarray momentum, cnp.ndarray average, double share, double rate,
                   double decay, double epsilon):
    cdef fnn_step_call call
    call.kind = STEP_RMSPROP
    call.share_v, call.rate, call.momentum, call.epsilon = share, rate, decay, epsilon
    make_step(&call, weight, gradient, velocity, momentum, average)


def adam_update(cnp.ndarray weight, cnp.ndarray gradient, cnp.ndarray m, cnp.ndarray v,
                cnp.ndarray largest, double share_m, double share_v, double alpha, double epsilon):
    cdef fnn_step_call call
    call.kind = STEP_ADAM
    call.share_m, call.share_v, call.rate, call.epsilon = share_m, share_v, alpha, epsilon
    make_step(&call, weight, gradient, m, v, largest)


def _vmath(str name, cnp.ndarray x):
    """For tests: one function of vmath.h on the ISA chosen now."""
    cdef const fnn_pointwise_table *table = table_for(x)
    cdef cnp.ndarray source = dense(x), y = empty_like(source)
    cdef int code = FUNCTIONS[name]
    cdef long n = cnp.PyArray_SIZE(source)
    with nogil:
        table.vmath(runtime, code, cnp.PyArray_DATA(source), cnp.PyArray_DATA(y), n)
    return y
