/* What a convolution call is, for the binding (_conv.pyx) and the kernels (conv*.inc). Sizes and
 * strides count numbers, not bytes; strides of images are in the order batch, row, column, channel,
 * whatever the data format. */
#ifndef FNN_CONV_H
#define FNN_CONV_H

#include "fused_names.h"
#include "names.h"
#include "packed.h"

typedef struct {
    long size[2], step[2], before[2], dilation[2]; /* rows, columns */
} fnn_window;

/* What the lanes and rows of products are; ENGINE_AUTO compares estimates of cycles. A forced engine
 * that does not suit a product leaves it to the estimates. */
enum { ENGINE_AUTO, ENGINE_CHANNELS, ENGINE_PIXELS, ENGINE_TAPS, ENGINE_WINOGRAD, ENGINE_AMX, ENGINE_LINES };

/* In how many ways kernels are packed: one an engine, and one more for Winograd's on the tile unit. */
enum { WAY_WINOGRAD_AMX = ENGINE_LINES + 1, FNN_CONV_WAYS };

typedef struct {
    const fnn_runtime *runtime;
    int threads;
    int activation;
    int engine;
    int winograd;                  /* 0: never */
    long batch, height, width, out_height, out_width;
    long groups, inner, outer;     /* channels of x and of y in each group */
    fnn_window window;
    const void *x;                 /* [batch, height, width, groups * inner] strided */
    long x_step[4];
    const void *kernel;            /* [size0, size1, inner, groups * outer] strided */
    long kernel_step[4];
} fnn_conv_call;

typedef struct {
    fnn_conv_call call;
    const void *bias;              /* [groups * outer] strided, or NULL */
    long bias_step;
    fnn_packed *packed;            /* [FNN_CONV_WAYS] of this kernel, window and groups, or NULL */
    void *y;                       /* [batch, out_height, out_width, groups * outer] */
    long y_step[4];
} fnn_conv_forward;

typedef struct {
    fnn_conv_call call;
    const void *dy, *y;            /* of the same strides */
    long y_step[4];
    void *dx;                      /* NULL: not wanted; zeros on entry where no window reaches (fnn_conv_leaves_gaps) */
    long dx_step[4];
    void *dkernel;                 /* [size0, size1, inner, groups * outer] dense */
    void *dbias;                   /* [groups * outer] dense, or NULL */
} fnn_conv_backward;

typedef struct {
    const fnn_runtime *runtime;
    int threads;
    long batch, channels, height, width, out_height, out_width;
    fnn_window window;
    void *image;                   /* [batch, channels, height, width]: strided to read, dense to write */
    long image_step[4];            /* batch, channel, row, column */
    void *columns;                 /* [batch * oh * ow, channels * size0 * size1], likewise */
    long columns_step[2];
} fnn_columns_call;

typedef struct {
    /* 0, or -1 when there is no memory for the work area */
    int (*forward)(const fnn_conv_forward *);
    int (*backward)(const fnn_conv_backward *);
    int (*im2col)(const fnn_columns_call *);
    int (*col2im)(const fnn_columns_call *);
} fnn_conv_table;

FNN_DECLARE_TABLES(fnn_conv_table)

/* Whether some pixel phase of dx belongs to no tap of the window along an axis. */
static inline int fnn_conv_leaves_gaps(const fnn_window *w)
{
    return (w->step[0] > 1 && (w->size[0] < w->step[0] || w->dilation[0] > 1))
        || (w->step[1] > 1 && (w->size[1] < w->step[1] || w->dilation[1] > 1));
}

#endif
