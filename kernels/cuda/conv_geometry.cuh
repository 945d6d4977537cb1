/* Sizes and strides of a convolution, and the way from numbers to pixels. */
#ifndef FNN_CONV_GEOMETRY_CUH
#define FNN_CONV_GEOMETRY_CUH

#include "offsets.cuh"

/* `inner` and `outer` are the channels of one group, C / groups and O / groups. x has any strides, y
 * those of its data format, dz is [pixels, O] and the kernel [kh, kw, C / groups, O]. */
struct Geometry {
    Offset batch, height, width, out_height, out_width;
    Offset groups, inner, outer;
    Offset kernel_h, kernel_w, step_h, step_w, top, left, spread_h, spread_w;
    Offset x_b, x_h, x_w, x_c;
    Offset y_b, y_h, y_w, y_c;
};

struct Pixel {
    Offset b;
    int h, w;
};

FNN_INLINE Pixel pixel_of(Offset p, Offset height, Offset width)
{
    Pixel found;
    p = split(p, width, found.w);
    found.b = split(p, height, found.h);
    return found;
}

struct Tap {
    int i, j, c;
};

/* Of a number in the order (i, j, c). */
FNN_INLINE Tap tap_of(int k, int kernel_w, int channels)
{
    Tap tap;
    const int rest = k / channels;
    tap.c = k - rest * channels;
    tap.i = rest / kernel_w;
    tap.j = rest - tap.i * kernel_w;
    return tap;
}

/* x at a pixel that may lie in the padding. */
FNN_INLINE wide pixel_or_zero(const real *x, const Geometry &g, Offset base, Offset h, Offset w)
{
    if (h < 0 || h >= g.height || w < 0 || w >= g.width)
        return 0;
    return load(x + base + h * g.x_h + w * g.x_w);
}

/* The output whose tap (at `i` steps of `spread`) is this pixel, or -1. */
FNN_INLINE int output_of(int pixel, Offset before, int i, Offset spread, Offset step, Offset outputs)
{
    const int reach = (int)(pixel + before - i * spread);
    if (reach < 0)
        return -1;
    const int at = reach / (int)step;
    return at * (int)step == reach && at < outputs ? at : -1;
}

#endif
