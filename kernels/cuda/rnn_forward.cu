/* The recurrence forward, all steps in one launch: K0 (a block), K1 (a cluster), K2 (a grid).
 *
 * Equation: kernels/cells; options: rnn_step.cuh; who exchanges what: rnn_team.cuh; the product:
 * rnn_product.cuh. Pointers: rnn_step.cuh and
 *
 *     recurrent [Hp, G*H]   U with rows of zeros up to Hp, a multiple of 8; read once, then kept
 *     exchange, flags       of a grid, zeros on entry: [2 or 3, teams, rows, Hp], [teams, blocks]
 *
 * A block of a team owns `units` units, all gates of them, so that their cell needs no other block:
 *
 *     U  [H, G*H]     units of block 0 | 1 | 2 |        (the same columns of every gate)
 *                     k  #             .   .
 *                     |  #             .   .
 *     hm [rows, H] ->    # x W + b -> cell -> h', c' of its units -> hm for the next step -> all blocks
 *
 * A step goes over the team's rows, FNN_ROWS at a time: product, barrier, then one thread a (row, unit)
 * adds the slices' sums, makes the step of that unit and publishes what enters the next product.
 * x W, masks and resets of the next step are read before the exchange, so that memory and barrier wait
 * at the same time. h and c stay in shared memory; saved are y, and c and gates where they are kept.
 *
 * Loop order: time outermost (a step needs the last), rows next (weights in registers serve all rows),
 * k innermost.
 */
#include "rnn_step.cuh"
#include "rnn_product.cuh"
#include "rnn_team.cuh"

#if FNN_CELL == GRU_BEFORE
#define FIRST 2 /* columns of the first product: z, r; the second is n's */
#else
#define FIRST GATES
#endif

extern "C" __global__ void
#if FNN_EXCHANGE == 0 && FNN_CLUSTER > 1
    __cluster_dims__(FNN_CLUSTER, 1, 1)
#endif
__launch_bounds__(FNN_THREADS, 1) rnn_forward(CALL_PARAMETERS, OUTWARD_PARAMETERS, const real *recurrent, int units,
                                             int rows, int slices, int shared, real *exchange, unsigned *flags)
{
    const Call call = CALL_ARGUMENTS;
    const Outward out = OUTWARD_ARGUMENTS;
    const int Hp = (int)(H + 7) / 8 * 8;
    const int first_unit = (int)blockIdx.x * units;

    /* Shared memory: stage, weights, parts, states. */
    Team team;
    team.rank = blockIdx.x;
    team.blocks = gridDim.x;
    team.rows = rows;
    team.stride = Hp;
    team.buffers = FNN_CELL == GRU_BEFORE ? 3 : 2;
    team.stage = dynamic_shared<real>();
    team.exchange = exchange;
    team.flags = flags + (i64)blockIdx.y * gridDim.x;
    team.exchanges = 0;
    real *memory = team.stage + stage_rows(team.buffers, rows) * team.stride;
    const int lane = (int)threadIdx.x % units;
    const int valid = first_unit + lane < H;
    const real *columns = recurrent + first_unit + (valid ? lane : 0);
    const Weights<FIRST> weights =
        weights_of<FIRST>(columns, GATES * H, H, valid * FIRST, Hp, units, slices, shared, memory);
    wide kept[FNN_REGISTERS ? FNN_REGISTERS : 1][4][FIRST];
    keep_registers<FIRST, FNN_REGISTERS>(weights, kept);
    keep_shared<FIRST, FNN_REGISTERS>(weights);
    memory += shared * 4 * FNN_THREADS * FIRST;
#if FNN_CELL == GRU_BEFORE
    const Weights<1> weights_n =
        weights_of<1>(columns + 2 * H, GATES * H, H, valid, Hp, units, slices, shared, memory);
    wide none[1][4][1];
    keep_shared<1, 0>(weights_n);
    memory += shared * 4 * FNN_THREADS;
#endif
    wide *parts = reinterpret_cast<wide *>(memory);
    wide *state_h = parts + slices / weights.fold * FNN_ROWS * units * FIRST, *state_c = state_h + rows * units;
#if FNN_CELL == GRU_BEFORE
    wide *state_z = state_c, *state_r = state_z + rows * units;
#endif

    /* This thread's unit and, in each pass over FNN_ROWS rows, its row. */
    const int row = (int)threadIdx.x / units;
    const i64 j = first_unit + lane, top = (i64)blockIdx.y * rows;
    const bool owner = row < FNN_ROWS && valid;
    Bias added;
    if (owner) added = bias_of(out, H, j);

    /* Steps past the last of the team's rows are not made. */
    i64 steps = 0;
    for (int r = 0; r < rows; r++)
        if (top + r < B && length_of(call, top + r) > steps) steps = length_of(call, top + r);

    clear_stage(team);
    for (int r = row; owner && r < rows; r += FNN_ROWS) {
        if (top + r >= B) continue;
        const State state = initial_state(call, top + r, j);
        state_h[r * units + lane] = state.h;
        if (FNN_CELL == LSTM) state_c[r * units + lane] = state.c;
        publish(team, 0, r, (int)j, narrow(state.h * drop_of(call, (top + r) * H + j)));
    }

    Ahead ahead;
    if (owner && top + row < B && steps) ahead = look_ahead(call, out, 0, steps, top + row, j, length_of(call, top + row));
    team_sync(team);

    for (i64 s = 0; s < steps; s++) {
        const int now = (int)(s & 1), next = now ^ 1;
        const i64 t = time_of(call, s, steps);
#if FNN_CELL == GRU_BEFORE
        for (int pass = 0; pass < rows; pass += FNN_ROWS) {
            const int r = pass + row;
            const i64 b = top + r;
            const real *v = staged(team, now, pass);
            product<FIRST, FNN_REGISTERS>(weights, kept, v, team.stride, parts);
            __syncthreads();
            if (owner && b < B) {
                const Ahead now_ahead = look_ahead(call, out, s, steps, b, j, length_of(call, b));
                const wide a[2] = {sum_of(weights, parts, row, lane * 2), sum_of(weights, parts, row, lane * 2 + 1)};
                wide zr[2];
                reset_gates(now_ahead, added, a, zr);
                state_z[r * units + lane] = zr[0];
                state_r[r * units + lane] = zr[1];
                publish(team, 2, r, (int)j, narrow(zr[1] * widen(v[row * team.stride + j])));
            }
            if (FNN_EXCHANGE || pass + FNN_ROWS < rows) __syncthreads();
        }
        team_sync(team);
#endif
        for (int pass = 0; pass < rows; pass += FNN_ROWS) {
            const int r = pass + row;
            const i64 b = top + r;
            wide a[GATES], planes[PLANES ? PLANES : 1];
#if FNN_CELL == GRU_BEFORE
            product<1, 0>(weights_n, none, staged(team, 2, pass), team.stride, parts);
#else
            product<FIRST, FNN_REGISTERS>(weights, kept, staged(team, now, pass), team.stride, parts);
#endif
            __syncthreads();
            if (owner && b < B) {
#if FNN_CELL == GRU_BEFORE
                a[2] = sum_of(weights_n, parts, row, lane);
                planes[0] = state_z[r * units + lane];
                planes[1] = state_r[r * units + lane];
#else
#pragma unroll
                for (int g = 0; g < GATES; g++) a[g] = sum_of(weights, parts, row, lane * GATES + g);
#endif
                State state;
                state.h = state_h[r * units + lane];
                state.c = FNN_CELL == LSTM ? state_c[r * units + lane] : (wide)0;
                state = step_unit(call, out, ahead, added, a, planes, state, t, b, j);
                if (s + 1 < steps) {
                    if (ahead.reset_next) state = initial_state(call, b, j);
                    publish(team, next, r, (int)j, narrow(state.h * drop_of(call, b * H + j)));
                }
                state_h[r * units + lane] = state.h;
                if (FNN_CELL == LSTM) state_c[r * units + lane] = state.c;
            }
            const bool last = pass + FNN_ROWS >= rows;
            const i64 s_next = last ? s + 1 : s, b_next = last ? top + row : b + FNN_ROWS;
            if (owner && b_next < B && s_next < steps)
                ahead = look_ahead(call, out, s_next, steps, b_next, j, length_of(call, b_next));
            if (FNN_EXCHANGE || !last) __syncthreads(); /* parts and stage are free again */
        }
        team_sync(team);
    }

    for (int r = row; owner && r < rows; r += FNN_ROWS) {
        if (top + r >= B) continue;
        out.final_h[(top + r) * H + j] = narrow(state_h[r * units + lane]);
        if (FNN_CELL == LSTM) out.final_c[(top + r) * H + j] = narrow(state_c[r * units + lane]);
    }
}
