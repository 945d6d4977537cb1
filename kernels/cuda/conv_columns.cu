/* The column form of a convolution, and its adjoint.
 *
 *     columns   out[p - first, k] = x at tap k of output pixel p, 0 in the padding
 *     fold      dx at each pixel = sum of cols[p, k] over the taps k of outputs p that are this pixel
 *
 * cols is [pixels, taps] of one group; k counts (i, j, c) or, for im2col, (c, i, j). Both walk in the
 * order of what they write; fold collects, so that nothing is added by atomics.
 */
#include "device.cuh"

#include "conv_geometry.cuh"

FNN_INLINE Tap column_tap(const Geometry &g, int k, int channels_first)
{
    if (!channels_first)
        return tap_of(k, (int)g.kernel_w, (int)g.inner);
    const Tap tap = tap_of(k, (int)g.kernel_h, (int)g.kernel_w); /* (c, i, j): other names */
    return {tap.j, tap.c, tap.i};
}

extern "C" __global__ void columns(const real *x, real *out, Offset first, Offset count,
                                   int group, int channels_first, Geometry g)
{
    const Offset taps = g.kernel_h * g.kernel_w * g.inner;
    for (Offset e = thread_index(); e < count * taps; e += thread_count()) {
        int k;
        const Offset row = split(e, taps, k);
        const Pixel p = pixel_of(first + row, g.out_height, g.out_width);
        const Tap tap = column_tap(g, k, channels_first);
        const Offset h = p.h * g.step_h - g.top + tap.i * g.spread_h;
        const Offset w = p.w * g.step_w - g.left + tap.j * g.spread_w;
        const Offset base = p.b * g.x_b + (group * g.inner + tap.c) * g.x_c;
        store(out + e, pixel_or_zero(x, g, base, h, w));
    }
}

/* Writes the images first_image .. first_image + count / (height width) - 1 of dx, of one group. */
extern "C" __global__ void fold(const real *cols, real *dx, Offset first_image, Offset count,
                                int group, int channels_first, int last, Geometry g)
{
    const Offset taps = g.kernel_h * g.kernel_w * g.inner;
    for (Offset e = thread_index(); e < count * g.inner; e += thread_count()) {
        Pixel p;
        int c;
        if (last) {
            p = pixel_of(split(e, g.inner, c), g.height, g.width);
        } else {
            Pixel plane = pixel_of(e, g.height, g.width);
            p = {split(plane.b, g.inner, c), plane.h, plane.w};
        }
        wide sum = 0;
        for (int i = 0; i < g.kernel_h; i++) {
            const int oh = output_of(p.h, g.top, i, g.spread_h, g.step_h, g.out_height);
            if (oh < 0)
                continue;
            for (int j = 0; j < g.kernel_w; j++) {
                const int ow = output_of(p.w, g.left, j, g.spread_w, g.step_w, g.out_width);
                if (ow < 0)
                    continue;
                const Offset pixel = (p.b * g.out_height + oh) * g.out_width + ow;
                const Offset tap = channels_first ? (c * g.kernel_h + i) * g.kernel_w + j
                                                  : (i * g.kernel_w + j) * g.inner + c;
                sum += load(cols + pixel * taps + tap);
            }
        }
        store(dx + (first_image + p.b) * g.x_b + p.h * g.x_h + p.w * g.x_w +
                  (group * g.inner + c) * g.x_c,
              sum);
    }
}
