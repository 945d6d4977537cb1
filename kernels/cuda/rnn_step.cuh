/* One unit of one row at one time: all that a step does besides the matrix product (docs/contract.md,
 * section 3). The persistent kernels and the step-by-step kernels call the same functions.
 *
 *     row(t, b)   the row of (t, b) in every [T, B, ...] array here: t row_t + b row_b, so both memory
 *                 orders of x are served; the last axis is contiguous. mask and resets are [T, B] dense.
 *     steps       t < lengths[b] and mask[t, b]: the row computes; else its state is held
 *     live        t < lengths[b]: y, c are written; past it they stay the zeros that they were made as
 *
 * Forward, unit j of row b:
 *
 *     look_ahead   x W of (t, b, j), flags        all that does not depend on h: loaded early, so that it
 *     step_unit    cell, zoneout                  arrives while blocks wait for each other
 *     write_unit   y, c, gates
 *
 * Backward, in the other direction:
 *
 *     look_back    planes, old state, upstream gradients
 *     unit_gradient    da (and da_q of a GRU with reset_after); what passes by the product
 *     leave        dh = passed by + D (da U^T); the gradient of a reset goes to the initial state
 */
#ifndef FNN_RNN_STEP_CUH
#define FNN_RNN_STEP_CUH

#include "rnn_base.cuh"

enum { ZONE_NONE, ZONE_NOISE, ZONE_MEAN };

typedef struct {
    i64 T, B, H;
    i64 row_t, row_b;
    int reverse;
    const i64 *lengths;      /* [B] or NULL: all T */
    const u8 *mask, *resets; /* [T, B] or NULL */
    const real *h0, *c0;        /* [B, H] or NULL: zeros */
    const wide *drop;           /* [B, H], 0 or 1 / (1 - rate); NULL: none */
    int zone;
    double rate_h, rate_c;
    u64 seed;
} Call;

/* The same, as kernels take it and as they make it. */
#define CALL_PARAMETERS                                                                                   \
    i64 T, i64 B, i64 H, i64 row_t, i64 row_b, int reverse, const i64 *lengths, const u8 *mask,           \
        const u8 *resets, const real *h0, const real *c0, const wide *drop, int zone, double rate_h, double rate_c, \
        u64 seed
#define CALL_ARGUMENTS \
    {T, B, H, row_t, row_b, reverse, lengths, mask, resets, h0, c0, drop, zone, rate_h, rate_c, seed}

FNN_INLINE i64 row_of(const Call &call, i64 t, i64 b) { return t * call.row_t + b * call.row_b; }
FNN_INLINE i64 length_of(const Call &call, i64 b) { return call.lengths ? call.lengths[b] : call.T; }

FNN_INLINE bool is_masked(const Call &call, i64 t, i64 b) { return call.mask && !call.mask[t * call.B + b]; }
FNN_INLINE bool is_reset(const Call &call, i64 t, i64 b) { return call.resets && call.resets[t * call.B + b]; }

FNN_INLINE wide initial_of(const real *initial, i64 at) { return initial ? widen(initial[at]) : (wide)0; }
FNN_INLINE wide drop_of(const Call &call, i64 at) { return call.drop ? call.drop[at] : (wide)1; }

/* The largest length of `rows` rows from `top` on. */
FNN_INLINE i64 longest(const Call &call, i64 top, int rows)
{
    i64 most = 0;
    for (int r = 0; r < rows; r++)
        if (top + r < call.B && length_of(call, top + r) > most) most = length_of(call, top + r);
    return most;
}

/* The s-th time of `steps` in the direction of travel. */
FNN_INLINE i64 time_of(const Call &call, i64 s, i64 steps) { return call.reverse ? steps - 1 - s : s; }

/* The state before the step at t, after its reset. */
FNN_INLINE wide previous_of(const Call &call, const real *states, const real *initial, i64 t, i64 b, i64 j, i64 length,
                         bool reset)
{
    bool first = call.reverse ? t + 1 >= length : t == 0;
    if (first || reset) return initial_of(initial, b * call.H + j);
    return widen(states[row_of(call, call.reverse ? t + 1 : t - 1, b) * call.H + j]);
}

FNN_INLINE bool is_kept(const Call &call, u32 stream, double rate, i64 t, i64 b, i64 j)
{
    return rnn_dropped(call.seed, stream, (u64)((t * call.B + b) * call.H + j), rate);
}

FNN_INLINE wide zoneout(const Call &call, u32 stream, double rate, i64 t, i64 b, i64 j, wide before, wide after)
{
    if (rate == 0) return after;
    if (call.zone == ZONE_MEAN) return before * (wide)rate + after * (wide)(1 - rate);
    return is_kept(call, stream, rate, t, b, j) ? before : after;
}

/* ------------------------------------------------------------------------------ forward */

typedef struct {
    const real *ax;               /* [N, G*H], rows by row(t, b): x W */
    const real *bias, *recurrent; /* [G*H] or NULL */
    real *y;                      /* [N, H] */
    real *c;                      /* [N, H] or NULL */
    real *gates;                  /* [N, S, H] or NULL */
    real *final_h, *final_c;      /* [B, H] */
} Outward;

#define OUTWARD_PARAMETERS \
    const real *ax, const real *bias, const real *recurrent_bias, real *y, real *all_c, real *gates, real *final_h, real *final_c
#define OUTWARD_ARGUMENTS {ax, bias, recurrent_bias, y, all_c, gates, final_h, final_c}

typedef struct {
    wide x[GATES];
    bool live, steps, reset_next;
} Ahead;

typedef struct {
    wide h, c;
} State;

/* What is added to the products of unit j, once a kernel: b + rb, apart only where the reset gate parts
 * them. */
typedef struct {
    wide x[GATES], q;
} Bias;

FNN_INLINE Bias bias_of(const Outward &out, i64 H, i64 j)
{
    Bias bias;
#pragma unroll
    for (int g = 0; g < GATES; g++) {
        wide recurrent = initial_of(out.recurrent, g * H + j);
        bias.x[g] = initial_of(out.bias, g * H + j);
        if (FNN_CELL == GRU_AFTER && g == 2) bias.q = recurrent;
        else bias.x[g] += recurrent;
    }
    return bias;
}

FNN_INLINE State initial_state(const Call &call, i64 b, i64 j)
{
    State state;
    state.h = initial_of(call.h0, b * call.H + j);
    state.c = FNN_CELL == LSTM ? initial_of(call.c0, b * call.H + j) : (wide)0;
    return state;
}

FNN_INLINE Ahead look_ahead(const Call &call, const Outward &out, i64 s, i64 steps, i64 b, i64 j, i64 length)
{
    Ahead ahead;
    i64 t = time_of(call, s, steps), next = call.reverse ? t - 1 : t + 1;
    const real *x = out.ax + row_of(call, t, b) * (GATES * call.H) + j;
    ahead.live = t < length;
    ahead.steps = ahead.live && !is_masked(call, t, b);
    ahead.reset_next = s + 1 < steps && next < length && is_reset(call, next, b);
#pragma unroll
    for (int g = 0; g < GATES; g++) ahead.x[g] = ahead.steps ? widen(x[g * call.H]) : (wide)0;
    return ahead;
}

/* z and r of a GRU that resets before the product; a: the products of z and r. */
FNN_INLINE void reset_gates(const Ahead &ahead, const Bias &bias, const wide *a, wide *planes)
{
#pragma unroll
    for (int g = 0; g < 2; g++) planes[g] = cell_sigmoid(ahead.x[g] + bias.x[g] + a[g]);
}

/* a: the products hm U of the gates. planes: in, z and r of GRU_BEFORE; out, all. */
FNN_INLINE State cell_forward(const wide *x, const Bias &bias, const wide *a, [[maybe_unused]] wide *planes,
                              [[maybe_unused]] State old)
{
    State state;
    state.c = 0;
#if FNN_CELL == SIMPLE_RNN
    state.h = simple_rnn_state(FNN_RELU, x[0] + bias.x[0] + a[0]);
#elif FNN_CELL == LSTM
    wide pre[4];
#pragma unroll
    for (int g = 0; g < 4; g++) pre[g] = x[g] + bias.x[g] + a[g];
    lstm_gates(pre, planes);
    lstm_state(planes, old.c, &state.c, &state.h);
#elif FNN_CELL == GRU_AFTER
    planes[0] = cell_sigmoid(x[0] + bias.x[0] + a[0]);
    planes[1] = cell_sigmoid(x[1] + bias.x[1] + a[1]);
    planes[3] = a[2] + bias.q;
    planes[2] = gru_candidate(x[2] + bias.x[2], planes[1], planes[3]);
    state.h = gru_state(planes[0], planes[2], old.h);
#else
    planes[2] = cell_tanh(x[2] + bias.x[2] + a[2]);
    state.h = gru_state(planes[0], planes[2], old.h);
#endif
    return state;
}

/* The state after the step; a row that does not step keeps its own. */
FNN_INLINE State step_unit(const Call &call, const Ahead &ahead, const Bias &bias, const wide *a, wide *planes,
                           State state, i64 t, i64 b, i64 j)
{
    if (!ahead.steps) return state;
    State fresh = cell_forward(ahead.x, bias, a, planes, state);
    if (call.zone != ZONE_NONE) {
        fresh.h = zoneout(call, PHILOX_ZONEOUT_H, call.rate_h, t, b, j, state.h, fresh.h);
        if (FNN_CELL == LSTM) fresh.c = zoneout(call, PHILOX_ZONEOUT_C, call.rate_c, t, b, j, state.c, fresh.c);
    }
    return fresh;
}

FNN_INLINE void write_unit(const Call &call, const Outward &out, bool live, bool steps,
                           [[maybe_unused]] const wide *planes, State state, i64 t, i64 b, i64 j)
{
    const i64 row = row_of(call, t, b);
#if PLANES
    if (steps && out.gates) {
#pragma unroll
        for (int p = 0; p < PLANES; p++) out.gates[(row * PLANES + p) * call.H + j] = narrow(planes[p]);
    }
#else
    (void)steps;
#endif
    if (live) {
        out.y[row * call.H + j] = narrow(state.h);
        if (FNN_CELL == LSTM && out.c) out.c[row * call.H + j] = narrow(state.c);
    }
}

/* ------------------------------------------------------------------------------ backward */

typedef struct {
    const real *y, *c, *gates;      /* as saved: [N, H], [N, H], [N, S, H] */
    const real *dy, *dsh, *dsc;     /* [T, B, H] upstream, or NULL; last axis contiguous */
    i64 dy_t, dy_b, dsh_t, dsh_b, dsc_t, dsc_b;
    const real *d_final_h, *d_final_c; /* [B, H] or NULL */
    real *da;                       /* [N, G*H]: gradient of x W; zeros on entry where rows may not step */
    real *dr;                       /* [N, G*H]: gradient of hm U where it is another (GRU_AFTER), else NULL */
    real *dh0, *dc0;                /* [B, H] */
} Inward;

#define INWARD_PARAMETERS                                                                                \
    const real *y, const real *all_c, const real *gates, const real *dy, const real *dsh, const real *dsc, i64 dy_t,       \
        i64 dy_b, i64 dsh_t, i64 dsh_b, i64 dsc_t, i64 dsc_b, const real *d_final_h, const real *d_final_c,    \
        real *da, real *dr, real *dh0, real *dc0
#define INWARD_ARGUMENTS                                                                                 \
    {y, all_c, gates, dy, dsh, dsc, dy_t, dy_b, dsh_t, dsh_b, dsc_t, dsc_b, d_final_h, d_final_c, da, dr, \
     dh0, dc0}

typedef struct {
    wide planes[PLANES ? PLANES : 1];
    wide h, c;      /* the state before the step */
    wide y;         /* the state after it (simple_rnn) */
    wide dh, dc;    /* upstream */
    bool live, steps, reset;
} Back;

/* Gradients of the state; those that resets gave to the initial state; and between the two halves of a
 * step what passes by the product. */
typedef struct {
    wide h, c, h0, c0;
    wide by;   /* of h, beside the product */
    wide hm;   /* of D h, beside the last product (GRU_BEFORE) */
} Gradient;

FNN_INLINE wide upstream(const real *d, i64 t, i64 b, i64 j, i64 along_t, i64 along_b)
{
    return d ? widen(d[t * along_t + b * along_b + j]) : (wide)0;
}

FNN_INLINE Back look_back(const Call &call, const Inward &in, i64 s, i64 steps, i64 b, i64 j, i64 length)
{
    Back back;
    i64 t = time_of(call, steps - 1 - s, steps), row = row_of(call, t, b), at = row * call.H + j;
    back.live = t < length;
    back.steps = back.live && !is_masked(call, t, b);
    back.reset = back.live && is_reset(call, t, b);
    back.dh = back.dc = back.h = back.c = back.y = 0;
    if (back.live) {
        back.dh = upstream(in.dy, t, b, j, in.dy_t, in.dy_b) + upstream(in.dsh, t, b, j, in.dsh_t, in.dsh_b);
        if (FNN_CELL == LSTM) back.dc = upstream(in.dsc, t, b, j, in.dsc_t, in.dsc_b);
    }
    if (back.steps) {
#if PLANES
#pragma unroll
        for (int p = 0; p < PLANES; p++) back.planes[p] = widen(in.gates[(row * PLANES + p) * call.H + j]);
#endif
        if (FNN_CELL == SIMPLE_RNN) back.y = widen(in.y[at]);
        if (FNN_CELL >= GRU_AFTER) back.h = previous_of(call, in.y, call.h0, t, b, j, length, back.reset);
        if (FNN_CELL == LSTM) back.c = previous_of(call, in.c, call.c0, t, b, j, length, back.reset);
    }
    return back;
}

FNN_INLINE Gradient first_gradient(const Call &call, const Inward &in, i64 b, i64 j)
{
    Gradient d;
    d.h = initial_of(in.d_final_h, b * call.H + j);
    d.c = FNN_CELL == LSTM ? initial_of(in.d_final_c, b * call.H + j) : (wide)0;
    d.h0 = d.c0 = d.by = d.hm = 0;
    return d;
}

/* From the gradient of the state after the step to those of the gates: da of x W and hm U, `dq` of the
 * candidate's recurrent part (GRU_AFTER). For GRU_BEFORE da[1] waits for the product of da[2]. */
FNN_INLINE void unit_gradient(const Call &call, const Back &back, Gradient &d, wide *da, wide *dq, i64 t, i64 b, i64 j)
{
    d.h += back.dh;
    d.c += back.dc;
    d.by = d.h;
    d.hm = 0;
#pragma unroll
    for (int g = 0; g < GATES; g++) da[g] = 0;
    *dq = 0;
    if (!back.steps) return;
    wide dh = d.h, kept_h = 0;
#if FNN_CELL == LSTM
    wide dc = d.c, kept_c = 0;
#endif
    if (call.zone == ZONE_NOISE) {
        if (call.rate_h != 0 && is_kept(call, PHILOX_ZONEOUT_H, call.rate_h, t, b, j)) {
            kept_h = dh;
            dh = 0;
        }
#if FNN_CELL == LSTM
        if (call.rate_c != 0 && is_kept(call, PHILOX_ZONEOUT_C, call.rate_c, t, b, j)) {
            kept_c = dc;
            dc = 0;
        }
#endif
    }
    d.by = kept_h;
#if FNN_CELL == SIMPLE_RNN
    da[0] = simple_rnn_backward(FNN_RELU, back.y, dh);
#elif FNN_CELL == LSTM
    lstm_backward(back.planes, back.c, dh, &dc, da);
    d.c = kept_c + dc;
#else
    wide passed;
    gru_state_backward(dh, back.planes[0], back.planes[2], back.h, &da[0], &da[2], &passed);
    d.by += passed;
#if FNN_CELL == GRU_AFTER
    gru_reset_backward(da[2], back.planes[3], back.planes[1], &da[1], dq);
#endif
#endif
}

#if FNN_CELL == GRU_BEFORE
/* dp: the gradient of r hm, the product of da[2]. Gives da[1]. */
FNN_INLINE wide reset_gradient(const Call &call, const Back &back, Gradient &d, wide dp, i64 b, i64 j)
{
    wide da_r = 0;
    if (back.steps)
        gru_reset_backward(dp, back.h * drop_of(call, b * call.H + j), back.planes[1], &da_r, &d.hm);
    return da_r;
}
#endif

/* dhm: the product da U^T. After it d is the gradient of the state before the step. */
FNN_INLINE void leave(const Call &call, Gradient &d, bool steps, bool reset, wide dhm, i64 b, i64 j)
{
    d.h = d.by;
    if (steps) d.h += (dhm + d.hm) * drop_of(call, b * call.H + j);
    if (reset) {
        d.h0 += d.h;
        d.c0 += d.c;
        d.h = d.c = 0;
    }
}

FNN_INLINE void write_gradients(const Call &call, const Inward &in, const wide *da, wide dq, i64 t, i64 b, i64 j)
{
    i64 at = row_of(call, t, b) * (GATES * call.H) + j;
#pragma unroll
    for (int g = 0; g < GATES; g++) {
        in.da[at + g * call.H] = narrow(da[g]);
        if (FNN_CELL == GRU_AFTER) in.dr[at + g * call.H] = narrow(g == 2 ? dq : da[g]);
    }
}

FNN_INLINE void write_initial(const Call &call, const Inward &in, const Gradient &d, i64 b, i64 j)
{
    in.dh0[b * call.H + j] = narrow(d.h0 + d.h);
    if (FNN_CELL == LSTM) in.dc0[b * call.H + j] = narrow(d.c0 + d.c);
}

#endif
