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
#include "philox.cuh"

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

#define PHILOX_RECURRENT_DROPOUT 2
#define PHILOX_ZONEOUT_H 3
#define PHILOX_ZONEOUT_C 4

FNN_INLINE bool rnn_dropped(u64 seed, u32 stream, u64 element, double rate)
{
    return philox_word(seed, stream, element) < (u32)(rate * 4294967296.0);
}

#endif
