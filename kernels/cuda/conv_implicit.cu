/* Convolution as a matrix product whose left operand is read straight from the image.
 *
 *     forward    y[p, o]   = act(sum over (i, j, c) of x[p at (i, j), c] w[i, j, c, o] + b[o])
 *     input      dx[q, c]  = sum over (i, j, o) of dz[p, o] w[i, j, c, o], p the output with (i, j) at q
 *     weights    dw[ijc, o] = sum over p of x[p at (i, j), c] dz[p, o], in segments of p
 *
 * One tile (conv_tile.cuh) with three ways to read A and B. blockIdx.z is the group (of weights: the
 * group and the segment). The column matrix never lies in memory: for few channels it would be
 * larger than x and y together. FNN_TILE, the columns of a tile, is 16, 32 or 64.
 */
#include "device.cuh"

#include "activation.cuh"
#include "conv_geometry.cuh"
#include "conv_tile.cuh"

/* A: output pixels by taps. */
struct Patches {
    const real *x;
    const Geometry &g;
    Offset base[ROWS];
    int h[ROWS], w[ROWS];
    Offset channel;
    int dh, dw;

    __device__ __forceinline__ void row(int r, Offset m, Offset count)
    {
        const Pixel p = pixel_of(m < count ? m : 0, g.out_height, g.out_width);
        base[r] = p.b * g.x_b;
        h[r] = m < count ? (int)(p.h * g.step_h - g.top) : -(1 << 30); /* beyond: in the padding */
        w[r] = (int)(p.w * g.step_w - g.left);
    }
    __device__ __forceinline__ void step(Offset k)
    {
        const Tap tap = tap_of((int)k, (int)g.kernel_w, (int)g.inner);
        dh = (int)(tap.i * g.spread_h);
        dw = (int)(tap.j * g.spread_w);
        channel = (blockIdx.z * g.inner + tap.c) * g.x_c;
    }
    __device__ __forceinline__ wide at(int r) const
    {
        return pixel_or_zero(x, g, base[r] + channel, h[r] + dh, w[r] + dw);
    }
};

/* B: the kernel as [taps, outputs of the group]. */
struct Weights {
    const real *w;
    const Geometry &g;

    __device__ __forceinline__ wide at(Offset k, int n) const
    {
        return load(w + (k * g.groups + blockIdx.z) * g.outer + n);
    }
};

/* A: input pixels by (i, j, o). */
struct Gradients {
    const real *dz;
    const Geometry &g;
    Offset image[ROWS];
    int h[ROWS], w[ROWS];
    Tap tap;

    __device__ __forceinline__ void row(int r, Offset m, Offset count)
    {
        const Pixel p = pixel_of(m < count ? m : 0, g.height, g.width);
        image[r] = p.b * g.out_height;
        h[r] = m < count ? p.h : -(1 << 30);
        w[r] = p.w;
    }
    __device__ __forceinline__ void step(Offset k)
    {
        tap = tap_of((int)k, (int)g.kernel_w, (int)g.outer);
    }
    __device__ __forceinline__ wide at(int r) const
    {
        const int oh = output_of(h[r], g.top, tap.i, g.spread_h, g.step_h, g.out_height);
        const int ow = output_of(w[r], g.left, tap.j, g.spread_w, g.step_w, g.out_width);
        if (oh < 0 || ow < 0)
            return 0;
        const Offset p = (image[r] + oh) * g.out_width + ow;
        return load(dz + (p * g.groups + blockIdx.z) * g.outer + tap.c);
    }
};

/* B: the kernel as [(i, j, o), input channels of the group]. */
struct WeightsAcross {
    const real *w;
    const Geometry &g;

    __device__ __forceinline__ wide at(Offset k, int n) const
    {
        int o;
        const Offset place = split(k, g.outer, o);
        return load(w + ((place * g.inner + n) * g.groups + blockIdx.z) * g.outer + o);
    }
};

/* A: taps by output pixels. */
struct PatchesAcross {
    const real *x;
    const Geometry &g;
    Offset group;
    Offset channel[ROWS];
    int dh[ROWS], dw[ROWS];
    Offset base;
    int h, w;

    __device__ __forceinline__ void row(int r, Offset m, Offset count)
    {
        const Tap tap = tap_of((int)(m < count ? m : 0), (int)g.kernel_w, (int)g.inner);
        dh[r] = m < count ? (int)(tap.i * g.spread_h) : -(1 << 30);
        dw[r] = (int)(tap.j * g.spread_w);
        channel[r] = (group * g.inner + tap.c) * g.x_c;
    }
    __device__ __forceinline__ void step(Offset k)
    {
        const Pixel p = pixel_of(k, g.out_height, g.out_width);
        base = p.b * g.x_b;
        h = (int)(p.h * g.step_h - g.top);
        w = (int)(p.w * g.step_w - g.left);
    }
    __device__ __forceinline__ wide at(int r) const
    {
        return pixel_or_zero(x, g, base + channel[r], h + dh[r], w + dw[r]);
    }
};

/* B: dz as [pixels, outputs of the group]. */
struct GradientsAcross {
    const real *dz;
    const Geometry &g;
    Offset group;

    __device__ __forceinline__ wide at(Offset k, int n) const
    {
        return load(dz + (k * g.groups + group) * g.outer + n);
    }
};

struct Outputs {
    real *y;
    const real *bias;
    int code;
    const Geometry &g;
    Offset base;

    __device__ __forceinline__ void row(Offset m)
    {
        const Pixel p = pixel_of(m, g.out_height, g.out_width);
        base = p.b * g.y_b + p.h * g.y_h + p.w * g.y_w;
    }
    __device__ __forceinline__ void at(int n, wide v) const
    {
        const Offset o = blockIdx.z * g.outer + n;
        store(y + base + o * g.y_c, activate_fused(code, bias ? v + load(bias + o) : v));
    }
};

struct Inputs {
    real *dx;
    const Geometry &g;
    Offset base;

    __device__ __forceinline__ void row(Offset m)
    {
        const Pixel p = pixel_of(m, g.height, g.width);
        base = p.b * g.x_b + p.h * g.x_h + p.w * g.x_w;
    }
    __device__ __forceinline__ void at(int n, wide v) const
    {
        store(dx + base + (blockIdx.z * g.inner + n) * g.x_c, v);
    }
};

struct Parts {
    wide *parts;
    const Geometry &g;
    Offset first, group; /* the segment's first row, the group's column */
    Offset base;

    __device__ __forceinline__ void row(Offset m)
    {
        base = ((first + m) * g.groups + group) * g.outer;
    }
    __device__ __forceinline__ void at(int n, wide v) const { parts[base + n] = v; }
};

#define SHARED \
    __shared__ __align__(16) wide a_shared[TILE_K * PITCH]; \
    __shared__ __align__(16) wide b_shared[TILE_K * FNN_TILE];

extern "C" __global__ void __launch_bounds__(256)
    forward(const real *x, const real *w, const real *bias, real *y, int code, Geometry g)
{
    SHARED
    multiply_tile<FNN_TILE>(Patches{x, g}, Weights{w, g}, Outputs{y, bias, code, g},
                            g.batch * g.out_height * g.out_width, (int)g.outer, 0,
                            g.kernel_h * g.kernel_w * g.inner, a_shared, b_shared);
}

extern "C" __global__ void __launch_bounds__(256)
    input(const real *dz, const real *w, real *dx, Geometry g)
{
    SHARED
    multiply_tile<FNN_TILE>(Gradients{dz, g}, WeightsAcross{w, g}, Inputs{dx, g},
                            g.batch * g.height * g.width, (int)g.inner, 0,
                            g.kernel_h * g.kernel_w * g.outer, a_shared, b_shared);
}

extern "C" __global__ void __launch_bounds__(256)
    weights(const real *x, const real *dz, wide *parts, Offset segment, Geometry g)
{
    SHARED
    const Offset group = blockIdx.z % g.groups, part = blockIdx.z / g.groups;
    const Offset taps = g.kernel_h * g.kernel_w * g.inner;
    const Offset pixels = g.batch * g.out_height * g.out_width, first = part * segment;
    multiply_tile<FNN_TILE>(PatchesAcross{x, g, group}, GradientsAcross{dz, g, group},
                            Parts{parts, g, part * taps, group}, taps, (int)g.outer, first,
                            first + segment < pixels ? first + segment : pixels, a_shared, b_shared);
}
