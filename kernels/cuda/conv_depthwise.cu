/* Convolution where every group has one input channel: no product, a weighted sum of taps.
 *
 *     forward    y[p, o]   = act(sum over (i, j) of x[p at (i, j), o / m] w[i, j, o] + b[o])
 *     input      dx[q, c]  = sum over (i, j) and the m outputs o of c of dz[p, o] w[i, j, o]
 *     weights    dw[ij, o] = sum over p of x[p at (i, j), o / m] dz[p, o], in segments of p
 *
 * with m = O / C. A thread has an element of what is written, in its order (weights: 32 outputs side
 * by side and 8 rows of pixels a block, added in order).
 */
#include "device.cuh"

#include "activation.cuh"
#include "conv_geometry.cuh"

/* (pixel, channel) of an element in the order of a data format. */
FNN_INLINE Pixel place_of(Offset e, Offset height, Offset width, Offset channels, int last, int &c)
{
    if (last)
        return pixel_of(split(e, channels, c), height, width);
    const Pixel plane = pixel_of(e, height, width);
    return {split(plane.b, channels, c), plane.h, plane.w};
}

extern "C" __global__ void forward(const real *x, const real *w, const real *bias, real *y,
                                   Offset count, int code, int last, Geometry g)
{
    const Offset outputs = g.groups * g.outer;
    for (Offset e = thread_index(); e < count; e += thread_count()) {
        int o;
        const Pixel p = place_of(e, g.out_height, g.out_width, outputs, last, o);
        const Offset base = p.b * g.x_b + o / (int)g.outer * g.x_c;
        wide sum = 0;
        for (int i = 0; i < g.kernel_h; i++)
            for (int j = 0; j < g.kernel_w; j++)
                sum += pixel_or_zero(x, g, base, p.h * g.step_h - g.top + i * g.spread_h,
                                     p.w * g.step_w - g.left + j * g.spread_w) *
                       load(w + (i * g.kernel_w + j) * outputs + o);
        store(y + e, activate_fused(code, bias ? sum + load(bias + o) : sum));
    }
}

extern "C" __global__ void input(const real *dz, const real *w, real *dx, Offset count, int last,
                                 Geometry g)
{
    const Offset outputs = g.groups * g.outer;
    for (Offset e = thread_index(); e < count; e += thread_count()) {
        int c;
        const Pixel p = place_of(e, g.height, g.width, g.groups, last, c);
        wide sum = 0;
        for (int i = 0; i < g.kernel_h; i++) {
            const int oh = output_of(p.h, g.top, i, g.spread_h, g.step_h, g.out_height);
            if (oh < 0)
                continue;
            for (int j = 0; j < g.kernel_w; j++) {
                const int ow = output_of(p.w, g.left, j, g.spread_w, g.step_w, g.out_width);
                if (ow < 0)
                    continue;
                const real *from = dz + ((p.b * g.out_height + oh) * g.out_width + ow) * outputs;
                const real *weight = w + (i * g.kernel_w + j) * outputs;
                for (Offset o = c * g.outer; o < (c + 1) * g.outer; o++)
                    sum += load(from + o) * load(weight + o);
            }
        }
        store(dx + e, sum);
    }
}

extern "C" __global__ void weights(const real *x, const real *dz, wide *parts, Offset segment,
                                   Geometry g)
{
    __shared__ wide rows[8][32];
    const Offset outputs = g.groups * g.outer, taps = g.kernel_h * g.kernel_w;
    const Offset pixels = g.batch * g.out_height * g.out_width;
    const Offset o = (Offset)blockIdx.x * 32 + threadIdx.x, part = blockIdx.z;
    const int tap = blockIdx.y, i = tap / (int)g.kernel_w, j = tap % (int)g.kernel_w;
    const Offset first = part * segment;
    const Offset last = first + segment < pixels ? first + segment : pixels;
    wide sum = 0;
    if (o < outputs)
        for (Offset m = first + threadIdx.y; m < last; m += 8) {
            const Pixel p = pixel_of(m, g.out_height, g.out_width);
            sum += pixel_or_zero(x, g, p.b * g.x_b + o / g.outer * g.x_c,
                                 p.h * g.step_h - g.top + i * g.spread_h,
                                 p.w * g.step_w - g.left + j * g.spread_w) *
                   load(dz + m * outputs + o);
        }
    rows[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && o < outputs) {
        for (int k = 1; k < 8; k++)
            sum += rows[k][threadIdx.x];
        parts[(part * taps + tap) * outputs + o] = sum;
    }
}
