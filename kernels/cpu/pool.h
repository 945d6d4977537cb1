/* The pooling family, for the binding (_pool.pyx) and the kernels (pool*.inc). Sizes count elements. */
#ifndef FNN_POOL_H
#define FNN_POOL_H

#include <stdint.h>
#include "names.h"

#define NO_CELL (-1)

typedef struct {
    long images, h, w, channels;     /* channels_first: images = B * C, channels = 1 */
    long oh, ow;
    long kh, kw, sh, sw, top, left;  /* window, strides, padding before; padding after follows from oh, ow */
    int count_padding;               /* average: divide by kh * kw, else by the cells inside the image */
    int bytes;                       /* offsets are uint8, else int32 */
    int relu;                        /* maximum: y = max(0, .); the offset of a window without a gradient is
                                        NO_CELL, in uint8 its lowest byte */
    const void *x;                   /* [images, h, w, channels] dense */
    void *y;                         /* [images, oh, ow, channels] dense */
    void *offsets;                   /* as y, or NULL: not wanted */
    const void *dy;                  /* as y */
    void *dx;                        /* as x */
    void *total;                     /* as y, or NULL: sum a of stochastic pooling at inference */
    uint64_t seed;                   /* stochastic */
} fnn_pool_call;

typedef struct {
    void (*max_forward)(const fnn_runtime *, const fnn_pool_call *);          /* x -> y, offsets */
    void (*take_backward)(const fnn_runtime *, const fnn_pool_call *);        /* dy, offsets -> dx */
    void (*average_forward)(const fnn_runtime *, const fnn_pool_call *);      /* x -> y */
    void (*average_backward)(const fnn_runtime *, const fnn_pool_call *);     /* dy -> dx */
    void (*fold)(const fnn_runtime *, const fnn_pool_call *);                 /* dy -> dx, not divided */
    void (*stochastic_draw)(const fnn_runtime *, const fnn_pool_call *);      /* x, seed -> y, offsets */
    void (*stochastic_mean)(const fnn_runtime *, const fnn_pool_call *);      /* x -> y, total */
} fnn_pool_table;

FNN_DECLARE_TABLES(fnn_pool_table)

#endif
