/* One element in, one element out: activations, dropout, uniform noise, and column sums.
 *
 *     activation_forward    y = act(x)
 *     activation_backward   dx = dy act'(kept)
 *     bias_activation       z = act(z + b), b [columns] or null, in place
 *     dropout               y = dropped(element) ? 0 : x / (1 - rate)
 *     uniform               y = (word >> 8) 2^-24
 *     column_sums           out[segment, column] = sum over the segment's rows of x [rows, columns]
 *
 * All arrays are contiguous. A thread moves 16 bytes at a time where every pointer allows it: these
 * kernels are bound by memory, so what counts is wide, coalesced accesses. The grid may be smaller
 * than the work: a thread goes on by the number of threads.
 */
#include "device.cuh"

#include "activation.cuh"
#include "philox.cuh"

#define LANES (16 / (int)sizeof(real))
typedef Pack<real, LANES> Vector;

FNN_INLINE bool aligned(const void *p) { return (unsigned long long)p % 16 == 0; }

/* f(element, own value, other value) of n elements; b may be null. */
template <typename F>
static __device__ __forceinline__ void each(const real *a, const real *b, real *out, Offset n, F f)
{
    Offset whole = 0;
    if (aligned(a) && aligned(out) && (!b || aligned(b))) {
        whole = n / LANES * LANES;
        for (Offset i = thread_index() * LANES; i < whole; i += thread_count() * LANES) {
            const Vector va = *reinterpret_cast<const Vector *>(a + i);
            Vector vb = va, result;
            if (b)
                vb = *reinterpret_cast<const Vector *>(b + i);
#pragma unroll
            for (int k = 0; k < LANES; k++)
                result.at[k] = narrow(f(i + k, widen(va.at[k]), widen(vb.at[k])));
            *reinterpret_cast<Vector *>(out + i) = result;
        }
    }
    for (Offset i = whole + thread_index(); i < n; i += thread_count())
        store(out + i, f(i, load(a + i), b ? load(b + i) : (wide)0));
}

extern "C" __global__ void activation_forward(const real *x, real *y, Offset n, int code)
{
    each(x, nullptr, y, n, [=](Offset, wide v, wide) { return activate(code, v); });
}

extern "C" __global__ void activation_backward(const real *dy, const real *kept, real *dx, Offset n,
                                               int code)
{
    each(dy, kept, dx, n, [=](Offset, wide d, wide k) { return slope(code, d, k); });
}

extern "C" __global__ void bias_activation(real *z, const real *bias, Offset n, unsigned columns,
                                           int code)
{
    each(z, nullptr, z, n, [=](Offset i, wide v, wide) {
        return activate(code, bias ? v + load(bias + i % columns) : v);
    });
}

/* How x's elements lie in the noise: strides of the noise, 0 where it is one wide. */
struct Broadcast {
    Offset axes, size[8], stride[8];
};

extern "C" __global__ void dropout(const real *x, real *y, Offset n, unsigned long long seed,
                                   unsigned threshold, wide scale, Broadcast noise)
{
    if (noise.axes == 0) { /* an element of noise for each of x: four of them by one block */
        for (Offset group = thread_index(); group * 4 < n; group += thread_count()) {
            const PhiloxBlock block = philox_block(seed, PHILOX_DROPOUT, group);
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const Offset i = group * 4 + k;
                if (i < n)
                    store(y + i, block.word[k] < threshold ? (wide)0 : load(x + i) * scale);
            }
        }
        return;
    }
    for (Offset i = thread_index(); i < n; i += thread_count()) {
        Offset rest = i, element = 0;
        for (int axis = (int)noise.axes - 1; axis >= 0; axis--) {
            element += rest % noise.size[axis] * noise.stride[axis];
            rest /= noise.size[axis];
        }
        const unsigned word = philox_word(seed, PHILOX_DROPOUT, element);
        store(y + i, word < threshold ? (wide)0 : load(x + i) * scale);
    }
}

extern "C" __global__ void uniform(real *y, Offset n, unsigned long long seed, unsigned stream)
{
    for (Offset group = thread_index(); group * 4 < n; group += thread_count()) {
        const PhiloxBlock block = philox_block(seed, stream, group);
#pragma unroll
        for (int k = 0; k < 4; k++)
            if (group * 4 + k < n)
                store(y + group * 4 + k, philox_uniform(block.word[k]));
    }
}

/* Block: 32 columns x 8 rows, blockIdx.x by columns, blockIdx.y by segments of `rows_each` rows.
 * A row's 32 columns are read by one warp; the eight rows' sums are added in order at the end. */
extern "C" __global__ void column_sums(const real *x, wide *out, Offset rows, Offset columns,
                                       Offset rows_each)
{
    __shared__ wide part[8][32];
    const Offset column = (Offset)blockIdx.x * 32 + threadIdx.x;
    const Offset first = blockIdx.y * rows_each;
    const Offset last = first + rows_each < rows ? first + rows_each : rows;
    wide sum = 0;
    if (column < columns)
        for (Offset row = first + threadIdx.y; row < last; row += 8)
            sum += load(x + row * columns + column);
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < columns) {
        for (int k = 1; k < 8; k++)
            sum += part[k][threadIdx.x];
        out[blockIdx.y * columns + column] = sum;
    }
}

/* The segments' sums into one, in the dtype of the result. */
extern "C" __global__ void combine_segments(const wide *parts, real *out, Offset segments, Offset n)
{
    for (Offset i = thread_index(); i < n; i += thread_count()) {
        wide sum = 0;
        for (Offset s = 0; s < segments; s++)
            sum += parts[s * n + i];
        store(out + i, sum);
    }
}
