/* The product of a step, out[r][n] = sum_k v[r][k] M[k][n], by the threads of one block.
 *
 * v, FNN_ROWS rows of K numbers, lies in shared memory; the block owns some columns of M and keeps them
 * for all steps. A thread owns COLUMNS columns and every `slices`-th chunk of 4 k:
 *
 *     thread = slice * lanes + lane           lanes: threads side by side, of different columns
 *
 *              k: 0..3    4..7    8..11   ...
 *     slice      0         1       2    ... 0  1  2 ...        chunk i of slice s: k = 4 (i slices + s)
 *
 *     chunk i of a thread, 4 x COLUMNS weights:   i < REGISTERS                  in registers
 *                                                 i < REGISTERS + shared         in shared memory
 *                                                 the rest                       read again each step (L2)
 *
 * Weights are a thread's own, also in shared memory, where they lie [i][4][thread][COLUMNS]: no two
 * lanes of a warp meet in a bank. The lanes of a warp read the same v, one access of 4 numbers for
 * 4 COLUMNS multiply-adds; a weight in a register serves FNN_ROWS rows.
 *
 * The sums of the slices meet in shared memory, parts [slice][FNN_ROWS][columns], and are added in the
 * order of the slices by whoever needs them: no atomics. Where `lanes` is a power of two below 32 the
 * slices of a warp are added by shuffles first.
 */
#ifndef FNN_RNN_PRODUCT_CUH
#define FNN_RNN_PRODUCT_CUH

#include "rnn_base.cuh"

/* N elements moved together where 16 bytes hold them. */
template <int N> struct alignas((N & (N - 1)) ? sizeof(real) : sizeof(real) * N > 16 ? 16 : sizeof(real) * N) Row {
    real at[N];
};

template <int COLUMNS> struct Weights {
    const real *from;    /* M at this thread's first column: M[k][c] = from[k ld + c step] */
    i64 ld, step;
    int valid;           /* of its columns, how many there are; the others count as zero */
    int K;               /* rows of M, a multiple of 4 */
    int lane, slice, slices;
    int chunks, shared;  /* of a slice; of them in shared memory */
    real *memory;        /* [shared][4][threads][COLUMNS] */
    int lanes, fold;     /* fold: slices that shuffles add */
};

template <int COLUMNS>
static __device__ __forceinline__ Weights<COLUMNS> weights_of(const real *matrix, i64 ld, i64 step, int valid,
                                                              int K, int lanes, int slices, int shared,
                                                              real *memory)
{
    Weights<COLUMNS> w;
    w.from = matrix;
    w.ld = ld;
    w.step = step;
    w.K = K;
    w.lanes = lanes;
    w.lane = (int)threadIdx.x % lanes;
    w.slice = (int)threadIdx.x / lanes;
    w.slices = slices;
    w.valid = w.slice < slices ? valid : 0;
    w.chunks = (K / 4 + slices - 1) / slices;
    w.shared = shared;
    w.memory = memory;
    w.fold = (lanes & (lanes - 1)) == 0 && lanes < 32 && lanes * slices % 32 == 0 ? 32 / lanes : 1;
    return w;
}

template <int COLUMNS>
static __device__ __forceinline__ real weight_at(const Weights<COLUMNS> &w, int chunk, int q, int c)
{
    const int k = 4 * (chunk * w.slices + w.slice) + q;
    return k < w.K && c < w.valid ? w.from[k * w.ld + c * w.step] : narrow(0);
}

template <int COLUMNS> static __device__ __forceinline__ int memory_at(int i, int q)
{
    return ((i * 4 + q) * FNN_THREADS + (int)threadIdx.x) * COLUMNS;
}

/* Fill what is kept in shared memory; each thread fills what it alone will read. */
template <int COLUMNS, int REGISTERS>
static __device__ __forceinline__ void keep_shared(const Weights<COLUMNS> &w)
{
    for (int i = 0; i < w.shared; i++)
        for (int q = 0; q < 4; q++)
            for (int c = 0; c < COLUMNS; c++)
                w.memory[memory_at<COLUMNS>(i, q) + c] = weight_at(w, REGISTERS + i, q, c);
}

template <int COLUMNS, int REGISTERS>
static __device__ __forceinline__ void keep_registers(const Weights<COLUMNS> &w,
                                                      wide (&kept)[REGISTERS ? REGISTERS : 1][4][COLUMNS])
{
#pragma unroll
    for (int i = 0; i < REGISTERS; i++)
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) kept[i][q][c] = widen(weight_at(w, i, q, c));
}

template <int COLUMNS>
static __device__ __forceinline__ void multiply(const wide (&m)[4][COLUMNS], const real *v, int stride,
                                                wide (&sum)[FNN_ROWS][COLUMNS])
{
#pragma unroll
    for (int r = 0; r < FNN_ROWS; r++) {
        const Row<4> four = *reinterpret_cast<const Row<4> *>(v + r * stride);
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) sum[r][c] += widen(four.at[q]) * m[q][c];
    }
}

/* v: FNN_ROWS rows, `stride` apart. parts: [slices / fold][FNN_ROWS][lanes * COLUMNS]. */
template <int COLUMNS, int REGISTERS>
static __device__ __forceinline__ void product(const Weights<COLUMNS> &w,
                                               const wide (&kept)[REGISTERS ? REGISTERS : 1][4][COLUMNS],
                                               const real *v, int stride, wide *parts)
{
    wide sum[FNN_ROWS][COLUMNS];
#pragma unroll
    for (int r = 0; r < FNN_ROWS; r++)
#pragma unroll
        for (int c = 0; c < COLUMNS; c++) sum[r][c] = 0;
    const bool works = w.slice < w.slices;
    if (works) {
#pragma unroll
        for (int i = 0; i < REGISTERS; i++)
            if (4 * (i * w.slices + w.slice) < w.K)
                multiply<COLUMNS>(kept[i], v + 4 * (i * w.slices + w.slice), stride, sum);
        int i = REGISTERS;
        for (; i < REGISTERS + w.shared; i++) {
            const int k = 4 * (i * w.slices + w.slice);
            if (k >= w.K) break;
            wide m[4][COLUMNS];
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const Row<COLUMNS> row =
                    *reinterpret_cast<const Row<COLUMNS> *>(w.memory + memory_at<COLUMNS>(i - REGISTERS, q));
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) m[q][c] = widen(row.at[c]);
            }
            multiply<COLUMNS>(m, v + k, stride, sum);
        }
        for (; i < w.chunks; i++) {
            const int k = 4 * (i * w.slices + w.slice);
            if (k >= w.K) break;
            wide m[4][COLUMNS];
#pragma unroll
            for (int q = 0; q < 4; q++)
#pragma unroll
                for (int c = 0; c < COLUMNS; c++) m[q][c] = widen(weight_at(w, i, q, c));
            multiply<COLUMNS>(m, v + k, stride, sum);
        }
    }
    if (w.fold > 1) {
#pragma unroll
        for (int r = 0; r < FNN_ROWS; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++)
                for (int step = w.lanes; step < 32; step *= 2)
                    sum[r][c] += __shfl_xor_sync(FNN_ALL_LANES, sum[r][c], step);
    }
    if (works && w.slice % w.fold == 0) {
        wide *part = parts + ((w.slice / w.fold) * FNN_ROWS * w.lanes + w.lane) * COLUMNS;
#pragma unroll
        for (int r = 0; r < FNN_ROWS; r++)
#pragma unroll
            for (int c = 0; c < COLUMNS; c++) part[r * w.lanes * COLUMNS + c] = sum[r][c];
    }
}

/* One sum, from all slices, in their order. */
template <int COLUMNS>
static __device__ __forceinline__ wide sum_of(const Weights<COLUMNS> &w, const wide *parts, int r, int column)
{
    const int columns = w.lanes * COLUMNS;
    const wide *part = parts + r * columns + column;
    wide sum = 0;
    for (int s = 0; s < w.slices / w.fold; s++) sum += part[s * FNN_ROWS * columns];
    return sum;
}

#endif
