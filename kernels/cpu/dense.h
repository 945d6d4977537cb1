/* What a dense call is, for the binding (_dense.pyx) and the kernels (dense.inc). Sizes and strides
 * count numbers, not bytes. */
#ifndef FNN_DENSE_H
#define FNN_DENSE_H

#include "fused_names.h"
#include "names.h"
#include "packed.h"

typedef struct {
    const fnn_runtime *runtime;
    int threads;
    int activation;
    long M, inputs, units; /* I and O below; the names are complex.h's */
    const void *x;          /* [M, I] strided */
    long x_r, x_c;
    const void *kernel;     /* [I, O] strided */
    long kernel_r, kernel_c;
    const void *bias;       /* [O] strided, or NULL */
    long bias_c;
} fnn_dense_call;

typedef struct {
    fnn_dense_call call;
    fnn_packed *packed;     /* of this kernel, or NULL */
    void *y;                /* [M, O] dense */
} fnn_dense_forward;

typedef struct {
    fnn_dense_call call;
    const void *dy, *y;     /* [M, O] strided */
    long dy_r, dy_c, y_r, y_c;
    void *dx;               /* [M, I] dense; NULL: not wanted */
    void *dkernel;          /* [I, O] dense */
    void *dbias;            /* [O] dense, or NULL */
} fnn_dense_backward;

typedef struct {
    /* 0, or -1 when there is no memory for the work area */
    int (*forward)(const fnn_dense_forward *);
    int (*backward)(const fnn_dense_backward *);
} fnn_dense_table;

FNN_DECLARE_TABLES(fnn_dense_table)

#endif
