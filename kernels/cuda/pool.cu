/* Pooling over windows of images.
 *
 *     max          y = max a_k, the first one; a NaN wins           offsets: k = row * width + column
 *     with relu    y = max(0, max a_k); where it has no gradient    offsets: -1, no cell
 *     average      y = sum a_k / n
 *     stochastic   y = a_k drawn with a_k / sum a                   offsets: k
 *     expected     y = sum (a_k / sum a) a_k
 *
 * x has any strides; y and the offsets are contiguous in the data format, in whose order threads go
 * over the outputs: neighbours read neighbours. With channels last and innermost, a thread has
 * LANES channels of one output, 16 bytes. Backward, a thread owns elements of dx and collects from
 * the windows that hold them, so nothing is added by atomics:
 *
 *     rows of the image      0 1 2 3 4 5 6            pixel 3 lies in the windows whose top row is
 *     window 0 (k 3, s 2)    x x x                    in 1 .. 3, those of output rows
 *     window 1                   x x x                ceil((3 - k + 1) / s) .. floor(3 / s)
 */
#include "device.cuh"

#include "offsets.cuh"
#include "philox.cuh"

#define LANES (16 / (int)sizeof(real))

/* Sizes of the image and of the output, strides of the image in elements. */
struct Geometry {
    Offset batch, channels, height, width, out_height, out_width;
    Offset stride_b, stride_h, stride_w, stride_c;
    Offset kernel_h, kernel_w, step_h, step_w, top, left;
    Offset channels_last, count_include_pad, narrow_offsets, relu;
};

/* One output: where its window lies, clipped to the image. */
struct Place {
    Offset at;   /* in y */
    Offset base; /* in x, of pixel (0, 0) */
    int first_h, last_h, first_w, last_w; /* cells inside the image */
    int corner_h, corner_w;               /* of cell (0, 0); may be negative */
};

/* (b, h, w, c) of an element in the order of the data format, `lanes` channels as one. */
FNN_INLINE void coordinates(const Geometry &g, Offset e, int lanes, Offset height, Offset width,
                            Offset &b, int &h, int &w, int &c)
{
    if (g.channels_last) {
        e = split(e, g.channels / lanes, c);
        c *= lanes;
        e = split(e, width, w);
        b = split(e, height, h);
    } else {
        e = split(e, width, w);
        e = split(e, height, h);
        b = split(e, g.channels, c);
    }
}

/* The window of output (h, w). */
FNN_INLINE Place window_of(const Geometry &g, int h, int w)
{
    Place p = {};
    p.corner_h = (int)(h * g.step_h - g.top);
    p.corner_w = (int)(w * g.step_w - g.left);
    p.first_h = p.corner_h < 0 ? -p.corner_h : 0;
    p.first_w = p.corner_w < 0 ? -p.corner_w : 0;
    p.last_h = (int)(g.kernel_h < g.height - p.corner_h ? g.kernel_h : g.height - p.corner_h);
    p.last_w = (int)(g.kernel_w < g.width - p.corner_w ? g.kernel_w : g.width - p.corner_w);
    return p;
}

FNN_INLINE Place place_of(const Geometry &g, Offset e, int lanes)
{
    Offset b;
    int h, w, c;
    coordinates(g, e, lanes, g.out_height, g.out_width, b, h, w, c);
    Place p = window_of(g, h, w);
    p.at = e * lanes;
    p.base = b * g.stride_b + c * g.stride_c;
    return p;
}

FNN_INLINE void store_offset(void *offsets, const Geometry &g, Offset at, int k)
{
    if (!offsets)
        return;
    if (g.narrow_offsets)
        static_cast<unsigned char *>(offsets)[at] = (unsigned char)k;
    else
        static_cast<int *>(offsets)[at] = k;
}

/* f(cell, values of N channels) for every cell inside the image, row by row. */
template <int N, typename F>
static __device__ __forceinline__ void cells(const real *x, const Geometry &g, const Place &p, F f)
{
    for (int i = p.first_h; i < p.last_h; i++) {
        const real *row = x + p.base + (p.corner_h + i) * g.stride_h + p.corner_w * g.stride_w;
        for (int j = p.first_w; j < p.last_w; j++)
            f((int)(i * g.kernel_w) + j,
              *reinterpret_cast<const Pack<real, N> *>(row + j * g.stride_w));
    }
}

template <int N>
static __device__ __forceinline__ void max_pool(const real *x, real *y, void *offsets,
                                                const Geometry &g, Offset e)
{
    const Place p = place_of(g, e, N);
    Pack<real, N> best = {};
    int taken[N] = {};
    bool any = false;
    cells<N>(x, g, p, [&](int k, const Pack<real, N> &v) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            const wide a = widen(v.at[n]), b = widen(best.at[n]);
            if (!any || a > b || (a != a && b == b)) {
                best.at[n] = v.at[n];
                taken[n] = k;
            }
        }
        any = true;
    });
#pragma unroll
    for (int n = 0; n < N && g.relu; n++) {
        const wide b = widen(best.at[n]);
        if (!(b > 0)) taken[n] = -1; /* no cell: it has no gradient */
        if (b <= 0) best.at[n] = narrow((wide)0);
    }
    *reinterpret_cast<Pack<real, N> *>(y + p.at) = best;
#pragma unroll
    for (int n = 0; n < N; n++)
        store_offset(offsets, g, p.at + n, taken[n]);
}

FNN_INLINE wide cell_count(const Geometry &g, const Place &p)
{
    return (wide)(g.count_include_pad ? g.kernel_h * g.kernel_w
                                      : (Offset)(p.last_h - p.first_h) * (p.last_w - p.first_w));
}

template <int N>
static __device__ __forceinline__ void average_pool(const real *x, real *y, const Geometry &g,
                                                    Offset e)
{
    const Place p = place_of(g, e, N);
    wide sum[N] = {};
    cells<N>(x, g, p, [&](int, const Pack<real, N> &v) {
#pragma unroll
        for (int n = 0; n < N; n++)
            sum[n] += widen(v.at[n]);
    });
    const wide count = cell_count(g, p);
    Pack<real, N> result;
#pragma unroll
    for (int n = 0; n < N; n++)
        result.at[n] = narrow(sum[n] / count);
    *reinterpret_cast<Pack<real, N> *>(y + p.at) = result;
}

extern "C" __global__ void max_forward(const real *x, real *y, void *offsets, Offset outputs,
                                       Geometry g)
{
    for (Offset e = thread_index(); e < outputs; e += thread_count())
        max_pool<1>(x, y, offsets, g, e);
}

extern "C" __global__ void max_forward_lanes(const real *x, real *y, void *offsets, Offset outputs,
                                             Geometry g)
{
    for (Offset e = thread_index(); e < outputs / LANES; e += thread_count())
        max_pool<LANES>(x, y, offsets, g, e);
}

extern "C" __global__ void average_forward(const real *x, real *y, Offset outputs, Geometry g)
{
    for (Offset e = thread_index(); e < outputs; e += thread_count())
        average_pool<1>(x, y, g, e);
}

extern "C" __global__ void average_forward_lanes(const real *x, real *y, Offset outputs, Geometry g)
{
    for (Offset e = thread_index(); e < outputs / LANES; e += thread_count())
        average_pool<LANES>(x, y, g, e);
}

/* The sums are made in x's dtype, one cell after the other: every backend draws the same cell. */
FNN_INLINE wide rounded(wide v) { return widen(narrow(v)); }

extern "C" __global__ void stochastic_forward(const real *x, real *y, void *offsets, Offset outputs,
                                              unsigned long long seed, Geometry g)
{
    for (Offset e = thread_index(); e < outputs; e += thread_count()) {
        const Place p = place_of(g, e, 1);
        wide sum = 0;
        int first = -1;
        cells<1>(x, g, p, [&](int k, const Pack<real, 1> &v) {
            sum = rounded(sum + widen(v.at[0]));
            first = first < 0 ? k : first;
        });
        const wide u = philox_uniform(philox_word(seed, PHILOX_STOCHASTIC_POOLING, e));
        const wide bound = rounded(u * sum);
        wide running = 0, drawn = 0, reached = 0;
        int taken = -1, reaching = -1, bad = -1;
        cells<1>(x, g, p, [&](int k, const Pack<real, 1> &v) {
            const wide a = widen(v.at[0]);
            running = rounded(running + a);
            if (taken < 0 && running > bound) {
                taken = k;
                drawn = a;
            }
            if (reaching < 0 && running >= sum) {
                reaching = k;
                reached = a;
            }
            if (bad < 0 && a != a) bad = k;
        });
        if (taken < 0 && reaching >= 0) {
            taken = reaching;
            drawn = reached;
        }
        if (sum == 0 || taken < 0) {
            taken = first;
            drawn = 0;
        }
        if (bad >= 0) { /* in a window with NaN the first NaN is taken */
            taken = bad;
            drawn = sum;
        }
        store(y + e, drawn);
        store_offset(offsets, g, e, taken);
    }
}

extern "C" __global__ void expected_forward(const real *x, real *y, Offset outputs, Geometry g)
{
    for (Offset e = thread_index(); e < outputs; e += thread_count()) {
        const Place p = place_of(g, e, 1);
        wide sum = 0, value = 0;
        cells<1>(x, g, p, [&](int, const Pack<real, 1> &v) { sum += widen(v.at[0]); });
        const wide safe = sum == 0 ? (wide)1 : sum;
        cells<1>(x, g, p, [&](int, const Pack<real, 1> &v) {
            value += widen(v.at[0]) / safe * widen(v.at[0]);
        });
        store(y + e, value);
    }
}

/* ---------------------------------------------------------------- backward */

/* The outputs whose windows hold this pixel, along one axis. */
struct Span {
    int first, last;
};

FNN_INLINE Span covering(int pixel, Offset before, Offset kernel, Offset step, Offset outputs)
{
    const int reach = (int)(pixel + before - kernel + 1);
    const int first = reach <= 0 ? 0 : (int)((reach + step - 1) / step);
    const int last = (int)((pixel + before) / step);
    return {first, (int)(last < outputs - 1 ? last : outputs - 1)};
}

/* f(output's place in a contiguous y, output row, output column, cell) for the windows over e. */
template <typename F>
static __device__ __forceinline__ void windows_over(const Geometry &g, Offset e, F f)
{
    Offset b;
    int h, w, c;
    coordinates(g, e, 1, g.height, g.width, b, h, w, c);
    const Span rows = covering(h, g.top, g.kernel_h, g.step_h, g.out_height);
    const Span columns = covering(w, g.left, g.kernel_w, g.step_w, g.out_width);
    for (int oh = rows.first; oh <= rows.last; oh++)
        for (int ow = columns.first; ow <= columns.last; ow++) {
            const int i = (int)(h + g.top - oh * g.step_h), j = (int)(w + g.left - ow * g.step_w);
            const Offset pixel = (Offset)oh * g.out_width + ow, plane = g.out_height * g.out_width;
            const Offset at = g.channels_last ? (b * plane + pixel) * g.channels + c
                                              : (b * g.channels + c) * plane + pixel;
            f(at, oh, ow, (int)(i * g.kernel_w) + j);
        }
}

extern "C" __global__ void take_backward(const real *dy, const void *offsets, real *dx,
                                         Offset inputs, Geometry g)
{
    for (Offset e = thread_index(); e < inputs; e += thread_count()) {
        wide sum = 0;
        windows_over(g, e, [&](Offset at, int, int, int k) {
            const int taken = g.narrow_offsets ? static_cast<const unsigned char *>(offsets)[at]
                                               : static_cast<const int *>(offsets)[at];
            if (taken == k)
                sum += load(dy + at);
        });
        store(dx + e, sum);
    }
}

extern "C" __global__ void average_backward(const real *dy, real *dx, Offset inputs, Geometry g)
{
    for (Offset e = thread_index(); e < inputs; e += thread_count()) {
        wide sum = 0;
        windows_over(g, e, [&](Offset at, int oh, int ow, int) {
            sum += load(dy + at) / cell_count(g, window_of(g, oh, ow));
        });
        store(dx + e, sum);
    }
}

/* d (sum a_k^2 / S) / d a_k = (2 a_k - y) / S, in two passes: dy / S and y of every window ... */
extern "C" __global__ void expected_shares(const real *dy, const real *x, wide *share, wide *value,
                                           Offset outputs, Geometry g)
{
    for (Offset e = thread_index(); e < outputs; e += thread_count()) {
        const Place p = place_of(g, e, 1);
        wide sum = 0, y = 0;
        cells<1>(x, g, p, [&](int, const Pack<real, 1> &v) { sum += widen(v.at[0]); });
        const wide safe = sum == 0 ? (wide)1 : sum;
        cells<1>(x, g, p, [&](int, const Pack<real, 1> &v) {
            y += widen(v.at[0]) / safe * widen(v.at[0]);
        });
        share[e] = sum == 0 ? (wide)0 : load(dy + e) / safe;
        value[e] = y;
    }
}

/* ... and what each pixel gets of them. */
extern "C" __global__ void expected_backward(const wide *share, const wide *value, const real *x,
                                             real *dx, Offset inputs, Geometry g)
{
    for (Offset e = thread_index(); e < inputs; e += thread_count()) {
        Offset b;
        int h, w, c;
        coordinates(g, e, 1, g.height, g.width, b, h, w, c);
        const wide a = load(x + b * g.stride_b + h * g.stride_h + w * g.stride_w + c * g.stride_c);
        wide sum = 0;
        windows_over(g, e, [&](Offset at, int, int, int) {
            sum += share[at] * (2 * a - value[at]);
        });
        store(dx + e, sum);
    }
}
