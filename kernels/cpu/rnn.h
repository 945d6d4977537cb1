/* What a recurrent call is, for the binding (_rnn.pyx) and the kernels (rnn*.inc). Sizes and strides
 * count elements, not bytes. "contiguous" speaks of the last axis. */
#ifndef FNN_RNN_H
#define FNN_RNN_H

#include <stdint.h>
#include "names.h"
#include "packed.h"
#undef I /* <complex.h>, which NumPy includes, takes this letter; here it is the number of inputs */

enum { CELL_SIMPLE_RNN, CELL_LSTM, CELL_GRU_AFTER, CELL_GRU_BEFORE, CELLS };

typedef struct {
    const fnn_runtime *runtime;
    int threads;
    int cell, relu, reverse;
    long T, B, I, H;
    long Hp;                             /* H rounded up to whole cache lines: fnn_rnn_padded(H) */
    const void *x;                       /* [T, B, I] contiguous */
    long x_t, x_b;
    const void *kernel, *recurrent;      /* [I, G*H], [H, G*H]; rows and columns strided */
    long kernel_r, kernel_c, recurrent_r, recurrent_c;
    const void *bias, *recurrent_bias;   /* [G*H] or NULL */
    long bias_c, recurrent_bias_c;
    const void *h0, *c0;                 /* [B, H] dense, or NULL for zeros */
    const int64_t *lengths;              /* [B] or NULL */
    const uint8_t *mask, *resets;        /* [T, B] dense, or NULL */
    double dropout, zone_h, zone_c;      /* rates; 0: none */
    int noisy;                           /* a seed was given; without, zoneout is the expectation */
    uint64_t seed;
} fnn_rnn_call;

enum { FNN_RNN_WAYS = 4 }; /* in which calls pack the same weights, by T and B */

typedef struct {
    fnn_rnn_call call;
    fnn_packed *packed;                  /* [FNN_RNN_WAYS] of these weights, or NULL */
    void *y;                             /* [T, B, H] contiguous; zeros on entry where lengths are given */
    long y_t, y_b;
    void *c;                             /* [T, B, Hp] dense, or NULL */
    void *gates;                         /* [T, Hp/L, B, S, L] dense, L numbers to 64 bytes (rnn_plan.inc); or NULL */
    uint64_t *kept;                      /* [T, B, states with noise, ceil(H/64)], bits: zoneout's; or NULL */
    void *final_h, *final_c;             /* [B, H] dense; final_c only for LSTM */
} fnn_rnn_forward;

typedef struct {
    fnn_rnn_call call;
    const void *y;                       /* [T, B, H] contiguous */
    long y_t, y_b;
    const void *c, *gates;               /* as saved; gates NULL: computed again */
    uint64_t *kept;                      /* as saved; NULL: drawn again, where zoneout is noise */
    const void *dy, *d_states_h, *d_states_c; /* [T, B, H] contiguous, or NULL */
    long dy_t, dy_b, dsh_t, dsh_b, dsc_t, dsc_b;
    const void *d_final_h, *d_final_c;   /* [B, H] dense, or NULL */
    void *dx;                            /* [T, B, I] contiguous, or NULL: not wanted; zeros on entry where lengths are given */
    long dx_t, dx_b;
    void *dkernel, *drecurrent;          /* [I, G*H], [H, G*H] dense */
    void *dbias, *drecurrent_bias;       /* [G*H], or NULL */
    void *dh0, *dc0;                     /* [B, H] dense; dc0 only for LSTM */
} fnn_rnn_backward;

typedef struct {
    /* 0, or -1 when there is no memory for the work area */
    int (*forward)(const fnn_rnn_forward *);
    int (*backward)(const fnn_rnn_backward *);
} fnn_rnn_table;

FNN_DECLARE_TABLES(fnn_rnn_table)

/* Rows of the saved arrays begin on a cache line. */
static inline long fnn_rnn_padded(long n, long item) { long line = 64 / item; return (n + line - 1) / line * line; }

#endif
