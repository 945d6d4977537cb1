/* The product of a step, out[r][n] = sum_k v[r][k] M[k][n], by the threads of one block.
 *
 * v, FNN_ROWS rows of K numbers, lies in shared memory; the block owns some columns of M and keeps them
 * for all steps. A thread owns WIDTH columns and every `slices`-th chunk of 4 k:
 *
 *     thread = slice * lanes + lane           lanes: threads side by side, of different columns
 *
 *              k: 0..3    4..7    8..11   ...
 *     slice      0         1       2    ... 0  1  2 ...        chunk i of slice s: k = 4 (i slices + s)
 *
 *     chunk i of a thread, 4 x WIDTH weights:     i < REGISTERS                  in registers
 *                                                 i < REGISTERS + shared         in shared memory
 *                                                 the rest                       read again each step (L2)
 *
 * Weights are a thread's own, also in shared memory, where they lie [i][4][thread][WIDTH]: no two
 * lanes of a warp meet in a bank. The lanes of a warp read the same v, one access of 4 numbers for
 * 4 WIDTH multiply-adds; a weight in a register serves FNN_ROWS rows.
 *
 * The sums of the slices meet in shared memory, parts [slice][FNN_ROWS][columns], and are added in the
 * order of the slices by whoever needs them: no atomics. Where `lanes` is a power of two below 32 the
 * slices of a warp are added by shuffles first.
 */
#ifndef FNN_RNN_PRODUCT_CUH
#define FNN_RNN_PRODUCT_CUH

#include "rnn_matrix.cuh"

/* N elements moved together where 16 bytes hold them. */
template <int N> struct alignas((N & (N - 1)) ? sizeof(real) : sizeof(real) * N > 16 ? 16 : sizeof(real) * N) Few {
    real at[N];
};

template <int G, int WIDTH, int REGISTERS> struct Product {
    wide kept[REGISTERS ? REGISTERS : 1][4][WIDTH];
    Matrix<G> matrix;
    real *memory;
    int lane, lanes, slice, slices, fold, chunks, shared;

    __device__ __forceinline__ Product(const Matrix<G> &matrix_, int units, int shared_chunks, void *memory_, void *)
        : matrix(matrix_)
    {
        lanes = (units * G + WIDTH - 1) / WIDTH;
        slices = FNN_THREADS / lanes;
        lane = (int)threadIdx.x % lanes;
        slice = (int)threadIdx.x / lanes;
        fold = (lanes & (lanes - 1)) == 0 && lanes < 32 && lanes * slices % 32 == 0 ? 32 / lanes : 1;
        chunks = (matrix.K / 4 + slices - 1) / slices;
        shared = shared_chunks;
        memory = static_cast<real *>(memory_);
        if (slice >= slices) return;
#pragma unroll
        for (int i = 0; i < REGISTERS; i++)
#pragma unroll
            for (int q = 0; q < 4; q++)
#pragma unroll
                for (int c = 0; c < WIDTH; c++) kept[i][q][c] = widen(weight(i, q, c));
        for (int i = 0; i < shared; i++)
            for (int q = 0; q < 4; q++)
                for (int c = 0; c < WIDTH; c++) place(i, q)->at[c] = weight(REGISTERS + i, q, c);
    }

    __device__ __forceinline__ int shared_numbers() const { return shared * 4 * FNN_THREADS * WIDTH; }
    __device__ __forceinline__ int part_numbers() const { return slices / fold * FNN_ROWS * lanes * WIDTH; }

    __device__ __forceinline__ real weight(int chunk, int q, int c) const
    {
        return matrix.at(4 * (chunk * slices + slice) + q, lane * WIDTH + c);
    }

    __device__ __forceinline__ Few<WIDTH> *place(int i, int q) const
    {
        return reinterpret_cast<Few<WIDTH> *>(memory + ((i * 4 + q) * FNN_THREADS + (int)threadIdx.x) * WIDTH);
    }

    /* v: FNN_ROWS rows, `stride` apart. */
    __device__ __forceinline__ void run(const real *v, int stride, wide *parts) const
    {
        wide sum[FNN_ROWS][WIDTH];
#pragma unroll
        for (int r = 0; r < FNN_ROWS; r++)
#pragma unroll
            for (int c = 0; c < WIDTH; c++) sum[r][c] = 0;
        if (slice < slices) {
#pragma unroll
            for (int i = 0; i < REGISTERS; i++) {
                const int k = 4 * (i * slices + slice);
                if (k < matrix.K) multiply(kept[i], v + k, stride, sum);
            }
            for (int i = REGISTERS; i < chunks; i++) {
                const int k = 4 * (i * slices + slice);
                if (k >= matrix.K) break;
                wide chunk[4][WIDTH];
                if (i < REGISTERS + shared) {
#pragma unroll
                    for (int q = 0; q < 4; q++) {
                        const Few<WIDTH> few = *place(i - REGISTERS, q);
#pragma unroll
                        for (int c = 0; c < WIDTH; c++) chunk[q][c] = widen(few.at[c]);
                    }
                } else {
#pragma unroll
                    for (int q = 0; q < 4; q++)
#pragma unroll
                        for (int c = 0; c < WIDTH; c++) chunk[q][c] = widen(weight(i, q, c));
                }
                multiply(chunk, v + k, stride, sum);
            }
        }
        if (fold > 1) {
#pragma unroll
            for (int r = 0; r < FNN_ROWS; r++)
#pragma unroll
                for (int c = 0; c < WIDTH; c++)
                    for (int step = lanes; step < 32; step *= 2)
                        sum[r][c] += __shfl_xor_sync(FNN_ALL_LANES, sum[r][c], step);
        }
        if (slice < slices && slice % fold == 0) {
            wide *part = parts + (slice / fold * FNN_ROWS * lanes + lane) * WIDTH;
#pragma unroll
            for (int r = 0; r < FNN_ROWS; r++)
#pragma unroll
                for (int c = 0; c < WIDTH; c++) part[r * lanes * WIDTH + c] = sum[r][c];
        }
    }

    static __device__ __forceinline__ void multiply(const wide (&m)[4][WIDTH], const real *v, int stride,
                                                    wide (&sum)[FNN_ROWS][WIDTH])
    {
#pragma unroll
        for (int r = 0; r < FNN_ROWS; r++) {
            const Few<4> four = *reinterpret_cast<const Few<4> *>(v + r * stride);
#pragma unroll
            for (int q = 0; q < 4; q++)
#pragma unroll
                for (int c = 0; c < WIDTH; c++) sum[r][c] += widen(four.at[q]) * m[q][c];
        }
    }

    /* One sum, from all slices, in their order. */
    __device__ __forceinline__ wide sum_of(const wide *parts, int r, int column) const
    {
        const wide *part = parts + r * lanes * WIDTH + column;
        wide sum = 0;
        for (int s = 0; s < slices / fold; s++) sum += part[s * FNN_ROWS * lanes * WIDTH];
        return sum;
    }
};

#endif
