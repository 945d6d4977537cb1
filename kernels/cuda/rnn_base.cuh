/* What the recurrent CUDA files stand on, besides device.cuh: cell equations and noise.
 *
 *     FNN_CELL    0 simple_rnn, 1 lstm, 2 gru with reset_after, 3 gru, reset before
 *     FNN_RELU    1: simple_rnn with relu
 *
 * The equations are those of kernels/cells/<cell>.h over `wide`; nothing here repeats them.
 */
#ifndef FNN_RNN_BASE_CUH
#define FNN_RNN_BASE_CUH

#include "device.cuh"

#ifndef FNN_CELL
#error "FNN_CELL is needed: 0 to 3"
#endif
#ifndef FNN_RELU
#define FNN_RELU 0
#endif

#define SIMPLE_RNN 0
#define LSTM 1
#define GRU_AFTER 2
#define GRU_BEFORE 3

/* Gates in the weights, and activated gates that are kept for the backward pass. */
#define GATES (FNN_CELL == LSTM ? 4 : FNN_CELL == SIMPLE_RNN ? 1 : 3)
#if FNN_CELL == SIMPLE_RNN
#define PLANES 0
#elif FNN_CELL == GRU_BEFORE
#define PLANES 3
#else
#define PLANES 4
#endif

typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned char u8;

/* ------------------------------------------------------------------------------ equations */

#if FNN_DTYPE == 64
FNN_INLINE wide cell_tanh(wide a) { return tanh(a); }
FNN_INLINE wide cell_sigmoid(wide a) { return 1 / (1 + exp(-a)); }
#else
FNN_INLINE wide cell_tanh(wide a) { return tanhf(a); }
FNN_INLINE wide cell_sigmoid(wide a) { return 1 / (1 + expf(-a)); }
#endif
/* A NaN is not below zero, so it stays. */
FNN_INLINE wide cell_relu(wide a) { return a < 0 ? 0 : a; }
FNN_INLINE wide cell_step(wide a) { return a > 0 ? 1 : 0; }

#define V wide
#define CELL_INLINE FNN_INLINE
#if FNN_CELL == SIMPLE_RNN
#include "simple_rnn.h"
#elif FNN_CELL == LSTM
#include "lstm.h"
#else
#include "gru.h"
#endif
#undef CELL_INLINE
#undef V

/* ------------------------------------------------------------------------------ noise */

/* The word of an element: Philox4x32-10 (Salmon et al. 2011) with the counter (element / 4 low, high,
 * stream, 0) and the key (seed low, seed high), of which the element takes word element % 4. */
FNN_INLINE u32 rnn_noise_word(u64 seed, u32 stream, u64 element)
{
    u64 block = element >> 2;
    u32 c0 = (u32)block, c1 = (u32)(block >> 32), c2 = stream, c3 = 0;
    u32 k0 = (u32)seed, k1 = (u32)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        u64 p0 = (u64)0xD2511F53u * c0, p1 = (u64)0xCD9E8D57u * c2;
        c0 = (u32)(p1 >> 32) ^ c1 ^ k0;
        c2 = (u32)(p0 >> 32) ^ c3 ^ k1;
        c1 = (u32)p1;
        c3 = (u32)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    u32 lane = (u32)element & 3;
    return lane < 2 ? (lane ? c1 : c0) : (lane == 2 ? c2 : c3);
}

enum { NOISE_RECURRENT_DROPOUT = 2, NOISE_ZONEOUT_H = 3, NOISE_ZONEOUT_C = 4 };

FNN_INLINE bool rnn_dropped(u64 seed, u32 stream, u64 element, double rate)
{
    return rnn_noise_word(seed, stream, element) < (u32)(rate * 4294967296.0);
}

#endif
