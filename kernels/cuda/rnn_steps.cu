/* The recurrence with one launch a step (kernel K3), and what goes before and after every recurrence.
 *
 * Equation: kernels/cells. Forward, for each step, [B, H] at a time:
 *
 *     au = hm U                      [B, G*H]   cuBLAS
 *     rnn_step_forward               au, x W -> state; y, c, gates; hm for the next step
 *
 *     hm --U--> au --+--> cell --> h, c (wide) --> hm = D h (after the next step's reset)
 *               ax --+         \--> y, c, gates of (t, b)
 *
 * Backward, in the other direction:
 *
 *     rnn_step_backward              first what is left of the step after (dh = by + D dhm), then this
 *                                    step's da -> the array of all steps, and `du` [B, G*H] beside it
 *     dhm = du U^T                   [B, H]     cuBLAS
 *
 * A GRU that resets before the product has two products a step, so its kernels come in two phases.
 * Threads are one unit of one row each, units side by side, so every access is coalesced. h and c stay
 * in `wide` between launches. Nothing is added by atomics.
 *
 *     h, c, hold [B, H] wide    hm, p [B, H], au [B, G*H], du [B, G*H] real    the rest: rnn_step.cuh
 *
 * Loop order: time is outermost because a step needs all of the step before; a launch is the barrier.
 */
#include "rnn_step.cuh"

#define FOR_UNITS                                                  \
    const i64 B = call.B, H = call.H;                              \
    for (i64 e = thread_index(); e < B * H; e += thread_count())

#define UNIT const i64 b = e / H, j = e % H

/* What all steps of a call share, in device memory: a step's own arguments are then the same in every
 * call of the same sizes, and its launches can be kept in a graph. Step k of a launch is `first` + k. */
typedef struct {
    Call call;
    Outward out;
    i64 first, steps;
} ForwardSteps;

typedef struct {
    Call call;
    Inward in;
    i64 first, steps;
} BackwardSteps;

static_assert(sizeof(ForwardSteps) <= 512 && sizeof(BackwardSteps) <= 512, "STEPS_BYTES of rnn_steps.py");

/* Row b of a [B, n*H] array, at unit j of block g. */
FNN_INLINE i64 block_at(const Call &call, i64 b, i64 blocks, i64 g, i64 j)
{
    return (b * blocks + g) * call.H + j;
}

/* What the next product reads. */
FNN_INLINE State enter(const Call &call, State state, bool reset, real *hm, i64 b, i64 j)
{
    if (reset) state = initial_state(call, b, j);
    hm[b * call.H + j] = narrow(state.h * drop_of(call, b * call.H + j));
    return state;
}

/* ------------------------------------------------------------------------------ before all steps */

extern "C" __global__ void rnn_begin_forward(CALL_PARAMETERS, OUTWARD_PARAMETERS, ForwardSteps *at, wide *h, wide *c,
                                             real *hm)
{
    const Call call = CALL_ARGUMENTS;
    if (thread_index() == 0) *at = {call, OUTWARD_ARGUMENTS, 0, call.T};
    for (i64 e = thread_index(); e < B * H; e += thread_count()) {
        UNIT;
        State state = enter(call, initial_state(call, b, j), false, hm, b, j);
        h[e] = state.h;
        if (FNN_CELL == LSTM) c[e] = state.c;
    }
}

extern "C" __global__ void rnn_begin_backward(CALL_PARAMETERS, INWARD_PARAMETERS, BackwardSteps *at)
{
    if (thread_index() == 0) *at = {CALL_ARGUMENTS, INWARD_ARGUMENTS, 0, T};
}

/* After so many steps. */
extern "C" __global__ void rnn_advance_forward(ForwardSteps *at, i64 steps)
{
    if (thread_index() == 0) at->first += steps;
}

extern "C" __global__ void rnn_advance_backward(BackwardSteps *at, i64 steps)
{
    if (thread_index() == 0) at->first += steps;
}

extern "C" __global__ void rnn_dropout_mask(wide *drop, i64 count, double rate, u64 seed)
{
    for (i64 e = thread_index(); e < count; e += thread_count())
        drop[e] = rnn_dropped(seed, PHILOX_RECURRENT_DROPOUT, (u64)e, rate) ? (wide)0 : (wide)(1 / (1 - rate));
}

/* ------------------------------------------------------------------------------ forward */

#if FNN_CELL == GRU_BEFORE
/* au [B, 2H] = hm U_zr -> z, r (kept in `zr` [B, 2, H]) and p = r hm, the input of the second product. */
extern "C" __global__ void rnn_step_reset(const ForwardSteps *at, i64 k, const real *au, const real *hm, wide *zr,
                                          real *p)
{
    const Call call = at->call;
    const Outward out = at->out;
    const i64 s = at->first + k, steps = at->steps;
    FOR_UNITS
    {
        UNIT;
        const Ahead ahead = look_ahead(call, out, s, steps, b, j, length_of(call, b));
        const wide a[2] = {widen(au[block_at(call, b, 2, 0, j)]), widen(au[block_at(call, b, 2, 1, j)])};
        wide planes[2];
        reset_gates(ahead, bias_of(out, H, j), a, planes);
        zr[block_at(call, b, 2, 0, j)] = planes[0];
        zr[block_at(call, b, 2, 1, j)] = planes[1];
        p[e] = narrow(planes[1] * widen(hm[e]));
    }
}
#endif

/* au: [B, G*H]; for GRU_BEFORE [B, H], p U_n. */
extern "C" __global__ void rnn_step_forward(const ForwardSteps *at, i64 k, const real *au, wide *h, wide *c, real *hm,
                                            [[maybe_unused]] const wide *zr)
{
    const Call call = at->call;
    const Outward out = at->out;
    const i64 s = at->first + k, steps = at->steps;
    FOR_UNITS
    {
        UNIT;
        const Ahead ahead = look_ahead(call, out, s, steps, b, j, length_of(call, b));
        wide a[GATES], planes[PLANES ? PLANES : 1];
#if FNN_CELL == GRU_BEFORE
        a[2] = widen(au[e]);
        planes[0] = zr[block_at(call, b, 2, 0, j)];
        planes[1] = zr[block_at(call, b, 2, 1, j)];
#else
#pragma unroll
        for (int g = 0; g < GATES; g++) a[g] = widen(au[block_at(call, b, GATES, g, j)]);
#endif
        State state;
        state.h = h[e];
        state.c = FNN_CELL == LSTM ? c[e] : (wide)0;
        const i64 t = time_of(call, s, steps);
        state = step_unit(call, ahead, bias_of(out, H, j), a, planes, state, t, b, j);
        write_unit(call, out, ahead.live, ahead.steps, planes, state, t, b, j);
        if (s + 1 == steps) {
            out.final_h[e] = narrow(state.h);
            if (FNN_CELL == LSTM) out.final_c[e] = narrow(state.c);
        }
        state = enter(call, state, ahead.reset_next, hm, b, j);
        h[e] = state.h;
        if (FNN_CELL == LSTM) c[e] = state.c;
    }
}

/* ------------------------------------------------------------------------------ backward */

/* dhm [B, H]: the product of step s - 1 (counted in this direction); s = steps only finishes. `d` holds the
 * gradients between launches: h, c, h0, c0, by, hm, each [B, H]. du [B, G*H]: what the product reads; for
 * GRU_BEFORE [B, 2H] with z's block, and dn [B, H]. */
extern "C" __global__ void rnn_step_backward(const BackwardSteps *at, i64 k, const real *dhm, wide *d, real *du,
                                             [[maybe_unused]] real *dn)
{
    const Call call = at->call;
    const Inward in = at->in;
    const i64 s = at->first + k, steps = at->steps, plane = call.B * call.H;
    FOR_UNITS
    {
        UNIT;
        const i64 length = length_of(call, b);
        Gradient grad;
        if (s == 0) {
            grad = first_gradient(call, in, b, j);
        } else {
            grad = {d[e], d[e + plane], d[e + 2 * plane], d[e + 3 * plane], d[e + 4 * plane], d[e + 5 * plane]};
            const i64 t = time_of(call, steps - s, steps);
            const bool live = t < length;
            leave(call, grad, live && !is_masked(call, t, b), live && is_reset(call, t, b), widen(dhm[e]), b, j);
        }
        if (s < steps) {
            const i64 t = time_of(call, steps - 1 - s, steps);
            const Back back = look_back(call, in, s, steps, b, j, length);
            wide da[GATES], dq;
            unit_gradient(call, back, grad, da, &dq, t, b, j);
#if FNN_CELL == GRU_BEFORE
            du[block_at(call, b, 2, 0, j)] = narrow(da[0]);
            dn[e] = narrow(da[2]);
#else
#pragma unroll
            for (int g = 0; g < GATES; g++)
                du[block_at(call, b, GATES, g, j)] = narrow(FNN_CELL == GRU_AFTER && g == 2 ? dq : da[g]);
#endif
            if (back.steps) write_gradients(call, in, da, dq, t, b, j);
            d[e] = grad.h;
            d[e + plane] = grad.c;
            d[e + 2 * plane] = grad.h0;
            d[e + 3 * plane] = grad.c0;
            d[e + 4 * plane] = grad.by;
            d[e + 5 * plane] = grad.hm;
        } else {
            write_initial(call, in, grad, b, j);
        }
    }
}

#if FNN_CELL == GRU_BEFORE
/* dp [B, H] = da_n U_n^T -> da_r, the second block of du [B, 2H]. */
extern "C" __global__ void rnn_step_backward_reset(const BackwardSteps *at, i64 k, const real *dp, wide *d, real *du)
{
    const Call call = at->call;
    const Inward in = at->in;
    const i64 s = at->first + k, steps = at->steps;
    FOR_UNITS
    {
        UNIT;
        const i64 t = time_of(call, steps - 1 - s, steps);
        const Back back = look_back(call, in, s, steps, b, j, length_of(call, b));
        Gradient grad;
        grad.hm = 0;
        const wide da_r = reset_gradient(call, back, grad, widen(dp[e]), b, j);
        d[e + 5 * B * H] = grad.hm;
        du[block_at(call, b, 2, 1, j)] = narrow(da_r);
        if (back.steps) in.da[row_of(call, t, b) * (3 * H) + H + j] = narrow(da_r);
    }
}
#endif

/* ------------------------------------------------------------------------------ around all steps */

/* The input of every step's product, for dU: hm [N, H] in rows by row(t, b), zero where no row steps;
 * p = r hm beside it for GRU_BEFORE (gates given), else NULL. */
extern "C" __global__ void rnn_previous(CALL_PARAMETERS, const real *y, const real *gates, real *hm, real *p)
{
    const Call call = CALL_ARGUMENTS;
    for (i64 e = thread_index(); e < T * B * H; e += thread_count()) {
        const i64 j = e % H, b = e / H % B, t = e / H / B;
        const i64 row = row_of(call, t, b), length = length_of(call, b);
        const bool live = t < length, steps = live && !is_masked(call, t, b);
        wide h = 0;
        if (steps)
            h = previous_of(call, y, call.h0, t, b, j, length, is_reset(call, t, b)) * drop_of(call, b * H + j);
        hm[row * H + j] = narrow(h);
        if (p) p[row * H + j] = narrow(steps ? h * widen(gates[(row * PLANES + 1) * H + j]) : (wide)0);
    }
}

/* x [T, B, I] of any strides, as rows by row(t, b), zero where no row steps (padding may hold NaN). */
extern "C" __global__ void rnn_stepping_rows(CALL_PARAMETERS, const real *x, i64 x_t, i64 x_b, i64 x_i,
                                             i64 I, real *rows)
{
    const Call call = CALL_ARGUMENTS;
    for (i64 e = thread_index(); e < T * B * I; e += thread_count()) {
        const i64 i = e % I, b = e / I % B, t = e / I / B;
        const bool steps = t < length_of(call, b) && !is_masked(call, t, b);
        rows[row_of(call, t, b) * I + i] = steps ? x[t * x_t + b * x_b + i * x_i] : narrow(0);
    }
}

/* The activated gates again, from ax = x W and au = hm U [N, G*H] of all steps (keep="states"). For
 * GRU_BEFORE in two calls: phase 0 gives z, r and p = r hm (into au_n's place), phase 1 n from au_n = p U_n. */
extern "C" __global__ void rnn_activate([[maybe_unused]] i64 N, [[maybe_unused]] i64 H,
                                        [[maybe_unused]] const real *ax, [[maybe_unused]] const real *au,
                                        [[maybe_unused]] const real *bias,
                                        [[maybe_unused]] const real *recurrent_bias, [[maybe_unused]] int phase,
                                        [[maybe_unused]] const real *hm, [[maybe_unused]] real *p,
                                        [[maybe_unused]] real *gates)
{
#if PLANES
    const Outward out = {ax, bias, recurrent_bias, 0, 0, 0, 0, 0};
    for (i64 e = thread_index(); e < N * H; e += thread_count()) {
        const i64 n = e / H, j = e % H;
        const Bias added = bias_of(out, H, j);
        real *kept = gates + n * PLANES * H + j;
        Ahead ahead;
        wide a[GATES], planes[PLANES];
        State old;
        old.h = old.c = 0;
#pragma unroll
        for (int g = 0; g < GATES; g++) ahead.x[g] = widen(ax[(n * GATES + g) * H + j]);
#if FNN_CELL == GRU_BEFORE
        if (phase == 0) {
            a[0] = widen(au[(n * 2 + 0) * H + j]);
            a[1] = widen(au[(n * 2 + 1) * H + j]);
            reset_gates(ahead, added, a, planes);
            kept[0] = narrow(planes[0]);
            kept[H] = narrow(planes[1]);
            p[e] = narrow(planes[1] * widen(hm[e]));
            continue;
        }
        planes[0] = planes[1] = 0;
        a[2] = widen(au[e]);
        cell_forward(ahead.x, added, a, planes, old);
        kept[2 * H] = narrow(planes[2]);
#else
#pragma unroll
        for (int g = 0; g < GATES; g++) a[g] = widen(au[(n * GATES + g) * H + j]);
        cell_forward(ahead.x, added, a, planes, old);
#pragma unroll
        for (int q = 0; q < PLANES; q++) kept[q * H] = narrow(planes[q]);
#endif
    }
#endif
}

/* Sums of the columns of a [N, C], in two rounds of a fixed order: a block of 32 x 8 threads adds
 * `chunk` rows of 32 columns; then one thread a column adds the chunks.
 *
 *     columns ->  |32|32|32|          parts [chunks, C] wide
 *     rows        8 lanes, stride 8   sums  [C]
 */
extern "C" __global__ void rnn_column_parts(const real *a, i64 N, i64 C, i64 chunk, wide *parts)
{
    __shared__ wide lanes[8][33];
    const i64 column = (i64)blockIdx.x * 32 + threadIdx.x, first = (i64)blockIdx.y * chunk;
    const i64 last = first + chunk < N ? first + chunk : N;
    wide sum = 0;
    if (column < C)
        for (i64 n = first + threadIdx.y; n < last; n += 8) sum += widen(a[n * C + column]);
    lanes[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && column < C) {
        for (int k = 1; k < 8; k++) sum += lanes[k][threadIdx.x];
        parts[(i64)blockIdx.y * C + column] = sum;
    }
}

extern "C" __global__ void rnn_column_sums(const wide *parts, i64 chunks, i64 C, real *sums)
{
    const i64 column = thread_index();
    if (column >= C) return;
    double sum = 0;
    for (i64 k = 0; k < chunks; k++) sum += parts[k * C + column];
    sums[column] = narrow((wide)sum);
}
