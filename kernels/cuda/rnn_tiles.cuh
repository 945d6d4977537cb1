/* The product of a step by the tensor cores: the interface of rnn_product.cuh, FNN_TENSOR 1.
 *
 * out^T [columns, FNN_ROWS] = M^T [columns, K] v^T: the weights are the instruction's 16 rows, the rows of
 * the batch its 8 columns, so that 8 rows fill it. A warp owns WIDTH tiles of 16 columns and every
 * `slices`-th chunk of k:
 *
 *     columns     tiles of warp group 0 | group 1 | ...      warp = slice * groups + group
 *     k           chunk = 64 bytes of a row of v (32 numbers of 16 bits, 16 of tf32): two instructions
 *
 *     v [8 rows][chunk]     lane 4 g + t reads 16 bytes, row g, quarter t:  words w0 w1 | w2 w3
 *                                                                    first instr. | second
 *
 * so a lane's words stand for k that lie side by side; the weights are put into the same order when they
 * are read, once a launch. They are kept as a lane's own words, as rnn_product.cuh keeps its numbers: in
 * registers, then in shared memory, then in device memory (`rest`, read through L2 in every step), 16
 * bytes a lane, side by side.
 *
 * Sums are float32. parts [slice][FNN_ROWS][columns + 4]: the 4 keep lanes out of each other's banks.
 */
#ifndef FNN_RNN_TILES_CUH
#define FNN_RNN_TILES_CUH

#include "rnn_tensor.cuh"
#include "rnn_matrix.cuh"

template <int G, int WIDTH, int REGISTERS> struct Product {
    static constexpr int WORD = 4 / sizeof(real), LANE = 4 * WORD, CHUNK = 4 * LANE;

    uint4 kept[REGISTERS ? REGISTERS : 1][WIDTH][2];
    uint4 *memory, *rest;
    int group, groups, slice, slices, chunks, shared, stride, columns, K;

    __device__ __forceinline__ Product(const Matrix<G> &matrix, int units, int shared_chunks, void *memory_,
                                       void *rest_)
    {
        const int warps = FNN_THREADS / 32, warp = (int)threadIdx.x / 32;
        groups = (units * G + 16 * WIDTH - 1) / (16 * WIDTH);
        slices = warps / groups;
        group = warp % groups;
        slice = warp / groups;
        K = matrix.K;
        chunks = (K / CHUNK + slices - 1) / slices;
        shared = shared_chunks;
        columns = groups * WIDTH * 16;
        stride = columns + 4;
        memory = static_cast<uint4 *>(memory_);
        rest = static_cast<uint4 *>(rest_);
        if (slice >= slices) return;
#pragma unroll
        for (int tile = 0; tile < WIDTH; tile++) {
            Source from = source(matrix, tile);
#pragma unroll
            for (int i = 0; i < REGISTERS; i++) {
#pragma unroll
                for (int half = 0; half < 2; half++) {
                    kept[i][tile][half] = from.words(half);
                    asm volatile("" ::: "memory"); /* else all loads begin at once, each in its own register */
                }
                from.advance(slices);
            }
            for (int i = 0; i < chunks - REGISTERS; i++) {
                uint4 *to = i < shared ? memory + place(i, tile, 0) : rest + place(i - shared, tile, 0);
                to[0] = from.words(0);
                to[FNN_THREADS] = from.words(1);
                from.advance(slices);
            }
        }
    }

    __device__ __forceinline__ int shared_numbers() const
    {
        return shared * WIDTH * 2 * FNN_THREADS * (int)(16 / sizeof(real));
    }
    __device__ __forceinline__ int part_numbers() const { return slices * FNN_ROWS * stride; }

    /* Where this lane's words of chunk i of shared or device memory lie. */
    static __device__ __forceinline__ i64 place(int i, int tile, int half)
    {
        return ((i64)(i * WIDTH + tile) * 2 + half) * FNN_THREADS + threadIdx.x;
    }

    /* This lane's part of a tile: rows k of two columns, 8 apart. */
    struct Source {
        const real *low, *high; /* NULL: past the last unit */
        i64 ld;
        int k, K;

        /* The words for one of the two instructions of a chunk. */
        __device__ __forceinline__ uint4 words(int half) const
        {
            const int first = half * 2 * WORD, second = first + WORD;
            return make_uint4(word(low, first), word(high, first), word(low, second), word(high, second));
        }

        __device__ __forceinline__ void advance(int slices)
        {
            const i64 step = (i64)slices * CHUNK * ld;
            k += slices * CHUNK;
            if (low) low += step;
            if (high) high += step;
        }

        __device__ __forceinline__ unsigned word(const real *column, int at) const
        {
            if (!column || k >= K) return 0;
            column += at * ld;
#if FNN_DTYPE == 32
            return to_tf32(column[0]);
#else
            unsigned short low_half, high_half;
            memcpy(&low_half, column, 2);
            memcpy(&high_half, column + ld, 2);
            return low_half | (unsigned)high_half << 16;
#endif
        }
    };

    __device__ __forceinline__ Source source(const Matrix<G> &matrix, int tile) const
    {
        const int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
        const int column = (group * WIDTH + tile) * 16 + g, k = slice * CHUNK;
        return {matrix.column(column, k + t * LANE), matrix.column(column + 8, k + t * LANE), matrix.ld, k, K};
    }

    __device__ __forceinline__ void run(const real *v, int v_stride, wide *parts) const
    {
        float sum[FNN_ROWS / 8][WIDTH][4];
        if (slice >= slices) return;
        const int g = (int)threadIdx.x % 32 / 4, t = (int)threadIdx.x % 4;
#pragma unroll
        for (int r = 0; r < FNN_ROWS / 8; r++)
#pragma unroll
            for (int tile = 0; tile < WIDTH; tile++)
#pragma unroll
                for (int q = 0; q < 4; q++) sum[r][tile][q] = 0;
        v += g * v_stride + t * LANE + slice * CHUNK;
        const int step = slices * CHUNK;
        int left = K - slice * CHUNK;
#pragma unroll
        for (int i = 0; i < REGISTERS; i++) {
            if (left > 0) multiply(kept[i], v, v_stride, sum);
            v += step;
            left -= step;
        }
        /* Two loops, so that the compiler knows which memory each reads. */
        for (int i = 0; i < shared && left > 0; i++) {
            multiply_from(memory, i, v, v_stride, sum);
            v += step;
            left -= step;
        }
        for (int i = 0; left > 0; i++) {
            multiply_from(rest, i, v, v_stride, sum);
            v += step;
            left -= step;
        }
        wide *part = parts + slice * FNN_ROWS * stride + group * WIDTH * 16 + g;
#pragma unroll
        for (int r = 0; r < FNN_ROWS / 8; r++)
#pragma unroll
            for (int tile = 0; tile < WIDTH; tile++)
#pragma unroll
                for (int q = 0; q < 4; q++)
                    part[(r * 8 + 2 * t + q % 2) * stride + tile * 16 + q / 2 * 8] = sum[r][tile][q];
    }

    static __device__ __forceinline__ void multiply_from(const uint4 *words, int i, const real *v, int v_stride,
                                                         float (&sum)[FNN_ROWS / 8][WIDTH][4])
    {
        uint4 chunk[WIDTH][2];
#pragma unroll
        for (int tile = 0; tile < WIDTH; tile++)
#pragma unroll
            for (int half = 0; half < 2; half++) chunk[tile][half] = words[place(i, tile, half)];
        multiply(chunk, v, v_stride, sum);
    }

    static __device__ __forceinline__ void multiply(const uint4 (&chunk)[WIDTH][2], const real *v, int v_stride,
                                                    float (&sum)[FNN_ROWS / 8][WIDTH][4])
    {
#pragma unroll
        for (int r = 0; r < FNN_ROWS / 8; r++) {
            const uint4 b = *reinterpret_cast<const uint4 *>(v + r * 8 * v_stride);
#pragma unroll
            for (int tile = 0; tile < WIDTH; tile++) {
                tensor_multiply(sum[r][tile], chunk[tile][0], b.x, b.y);
                tensor_multiply(sum[r][tile], chunk[tile][1], b.z, b.w);
            }
        }
    }

    /* One sum, from all slices, in their order. */
    __device__ __forceinline__ wide sum_of(const wide *parts, int r, int column) const
    {
        const wide *part = parts + r * stride + column;
        wide sum = 0;
        for (int s = 0; s < slices; s++) sum += part[s * FNN_ROWS * stride];
        return sum;
    }
};

#endif
