/* The pointwise family, for the binding (_pointwise.pyx) and the kernels (pointwise.inc). All arrays
 * are dense in C order; lengths count elements. */
#ifndef FNN_POINTWISE_H
#define FNN_POINTWISE_H

#include <stdint.h>
#include "names.h"

/* Linear is a copy, made by the binding; softmax and log_softmax have functions of their own. */
enum {
    ACT_RELU, ACT_LEAKY_RELU, ACT_ELU, ACT_SELU, ACT_TANH, ACT_SIGMOID, ACT_HARD_SIGMOID,
    ACT_SOFTPLUS, ACT_SOFTSIGN, ACT_EXPONENTIAL, ACT_SILU, ACT_GELU, ACTIVATIONS
};

enum {
    LOSS_SQUARED, LOSS_ABSOLUTE, LOSS_HUBER, LOSS_BINARY, LOSS_BINARY_LOGITS,
    LOSS_CATEGORICAL, LOSS_CATEGORICAL_LOGITS, LOSS_SPARSE, LOSS_SPARSE_LOGITS
};

enum {
    VMATH_EXP, VMATH_EXPM1, VMATH_LOG, VMATH_LOG1P, VMATH_LOG1P_UNIT, VMATH_TANH, VMATH_SIGMOID, VMATH_NORMAL
};

enum { STEP_SGD, STEP_NESTEROV, STEP_RMSPROP, STEP_ADAM };

typedef struct {
    int kind;                 /* LOSS_... */
    double delta;             /* huber */
    const void *y_true;       /* [rows, n]; NULL for the sparse losses */
    const int64_t *labels;    /* [rows], in 0 .. n - 1; for the sparse losses */
    const void *y_pred;       /* [rows, n] */
    const void *weight;       /* [rows] or NULL */
    void *grad;               /* [rows, n] or NULL */
    double *partial;          /* [fnn_loss_blocks(rows, n)] work area */
    long rows, n;
} fnn_loss_call;

typedef struct {
    int kind;                 /* STEP_... */
    long n;
    const void *gradient;
    void *weight, *slots[3];  /* what the slots and numbers are: pointwise_optimizer.inc */
    double rate, momentum, share_m, share_v, epsilon;
} fnn_step_call;

/* A loss is summed in blocks of whole rows, the same blocks for any number of threads. */
static inline long fnn_loss_block_rows(long n) { return n < 16384 ? 16384 / n : 1; }
static inline long fnn_loss_blocks(long rows, long n)
{
    return (rows + fnn_loss_block_rows(n) - 1) / fnn_loss_block_rows(n);
}

typedef struct {
    void (*activate)(const fnn_runtime *, int activation, const void *x, void *y, long n);
    void (*activate_gradient)(const fnn_runtime *, int activation, const void *dy, const void *kept,
                              void *dx, long n);
    void (*softmax)(const fnn_runtime *, int logarithm, const void *x, void *y, long rows, long n);
    void (*softmax_gradient)(const fnn_runtime *, int logarithm, const void *dy, const void *y, void *dx,
                             long rows, long n);
    void (*dropout)(const fnn_runtime *, double rate, uint64_t seed, const void *x, void *y, long n);
    void (*dropout_mask)(const fnn_runtime *, double rate, uint64_t seed, uint8_t *dropped, long n);
    void (*uniform)(const fnn_runtime *, uint64_t seed, uint32_t stream, void *y, long n);
    /* y [n, width] = the rows of table that indices [n] name */
    void (*gather)(const fnn_runtime *, const int64_t *indices, const void *table, void *y, long n, long width);
    /* dtable [rows, width]: row r is the sum of dy's rows order[starts[r]] .. order[starts[r+1] - 1] */
    void (*scatter)(const fnn_runtime *, const int64_t *starts, const int64_t *order, const void *dy,
                    void *dtable, long rows, long width);
    double (*loss)(const fnn_runtime *, const fnn_loss_call *);
    void (*optimizer_step)(const fnn_runtime *, const fnn_step_call *);
    void (*vmath)(const fnn_runtime *, int function, const void *x, void *y, long n);
} fnn_pointwise_table;

FNN_DECLARE_TABLES(fnn_pointwise_table)

#endif
