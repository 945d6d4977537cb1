/* The recurrence forward, all steps in one launch: K0 (a block), K1 (a cluster), K2 (a grid).
 *
 * Equation: kernels/cells; options: rnn_step.cuh; who exchanges what: rnn_team.cuh; the product:
 * rnn_product.cuh or rnn_tiles.cuh. Pointers: rnn_step.cuh and
 *
 *     recurrent [Hp, G*H]   U with rows of zeros up to Hp, a whole number of chunks; read once, then kept
 *     rest                  for tiles: weights in the order of the lanes that neither registers nor shared
 *                           memory hold, [blocks, ...]; rest_n of the second product
 *     exchange, flags       of a grid, zeros on entry: [2 or 3, teams, rows, stride], [teams, blocks]
 *
 * A block of a team owns `units` units, all gates of them, so that their cell needs no other block:
 *
 *     U  [H, G*H]     units of block 0 | 1 | 2 |        (the same columns of every gate)
 *                     k  #             .   .
 *                     |  #             .   .
 *     hm [rows, H] ->    # x W + b -> cell -> h', c' of its units -> hm for the next step -> all blocks
 *
 * A step goes over the team's rows, FNN_ROWS at a time: product, barrier, then each thread, for its unit of
 * one row (or of FNN_PAIRS rows), adds the slices' sums, makes the step and publishes what enters the next
 * product.
 * y, c and gates are written, and x W, masks and resets of the next step are read, between a block's arrival
 * at the barrier and its wait, so that memory and barrier are waited for at the same time. h and c stay in
 * shared memory; saved are y, and c and gates where they are kept.
 *
 * Loop order: time outermost (a step needs the last), rows next (weights in registers serve all rows),
 * k innermost.
 */
#include "rnn_step.cuh"
#if FNN_TENSOR
#include "rnn_tiles.cuh"
#else
#include "rnn_product.cuh"
#endif
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
__launch_bounds__(FNN_THREADS, 1) rnn_forward(CALL_PARAMETERS, OUTWARD_PARAMETERS, const real *recurrent, int Hp,
                                             int units, int rows, int shared, [[maybe_unused]] int shared_n,
                                             u8 *rest, i64 rest_size, [[maybe_unused]] i64 rest_at_n,
                                             real *exchange, unsigned *flags)
{
    const Call call = CALL_ARGUMENTS;
    const Outward out = OUTWARD_ARGUMENTS;
    const int first_unit = (int)blockIdx.x * units;
    const int last_unit = first_unit + units < (int)H ? first_unit + units : (int)H;
    rest += rest_size * blockIdx.x;
    if ((i64)units * gridDim.x < H) __trap(); /* a grid that was made smaller than was asked for */

    /* Shared memory: stage, weights, parts, states. */
    Team team = team_of(rows, row_stride(Hp), FNN_CELL == GRU_BEFORE ? 3 : 2, exchange, flags);
    real *memory = team.stage + stage_numbers(team);
    const Matrix<FIRST> matrix = {recurrent, GATES * H, H, Hp, first_unit, last_unit};
    const Product<FIRST, FNN_WIDTH, FNN_REGISTERS> product(matrix, units, shared, memory, rest);
    memory += product.shared_numbers();
#if FNN_CELL == GRU_BEFORE
    const Matrix<1> matrix_n = {recurrent + 2 * H, GATES * H, H, Hp, first_unit, last_unit};
    const Product<1, FNN_WIDTH_N, 0> product_n(matrix_n, units, shared_n, memory, rest + rest_at_n);
    memory += product_n.shared_numbers();
#endif
    wide *parts = reinterpret_cast<wide *>(memory);
#if FNN_CELL == GRU_BEFORE
    wide *state_h = parts + max(product.part_numbers(), product_n.part_numbers());
    wide *state_z = state_h + rows * units, *state_r = state_z + rows * units;
#else
    wide *state_h = parts + product.part_numbers();
#endif
    [[maybe_unused]] wide *state_c = state_h + rows * units;

    /* This thread's unit and, in each pass over FNN_ROWS rows, its rows: row, row + at_once, ... */
    const int lane = (int)threadIdx.x % units, row = (int)threadIdx.x / units, at_once = FNN_THREADS / units;
    const i64 j = first_unit + lane, top = (i64)blockIdx.y * rows;
    const bool owner = row < at_once && j < last_unit;
    Bias added;
    if (owner) added = bias_of(out, H, j);

    /* Steps past the last of the team's rows are not made. */
    const i64 steps = longest(call, top, rows);

    clear_stage(team);
    for (int r = row; owner && r < rows; r += at_once) {
        if (top + r >= B) continue;
        const State state = initial_state(call, top + r, j);
        state_h[r * units + lane] = state.h;
        if (FNN_CELL == LSTM) state_c[r * units + lane] = state.c;
        publish(team, 0, r, (int)j, operand(state.h * drop_of(call, (top + r) * H + j)));
    }

    /* f(its number, row of the pass, row of the batch) for each of this thread's rows of a pass. */
    auto for_rows = [&](int pass, auto &&f) {
#pragma unroll
        for (int q = 0; q < FNN_PAIRS; q++) {
            const int r = row + q * at_once;
            if (owner && r < FNN_ROWS && top + pass + r < B) f(q, r, top + pass + r);
        }
    };
    Ahead ahead[FNN_PAIRS];
    auto look = [&](i64 s, int pass) {
        for_rows(pass, [&](int q, int, i64 b) {
            ahead[q] = look_ahead(call, out, s, steps, b, j, length_of(call, b));
        });
    };
    team_arrive(team);
    if (steps) look(0, 0);
    team_wait(team);

    for (i64 s = 0; s < steps; s++) {
        const int now = (int)(s & 1), next = now ^ 1;
        const i64 t = time_of(call, s, steps);
#if FNN_CELL == GRU_BEFORE
        for (int pass = 0; pass < rows; pass += FNN_ROWS) {
            const real *v = staged(team, now, pass);
            product.run(v, team.stride, parts);
            __syncthreads();
            for_rows(pass, [&](int, int r, i64 b) {
                const int at = (pass + r) * units + lane;
                const Ahead here = look_ahead(call, out, s, steps, b, j, length_of(call, b));
                const wide a[2] = {product.sum_of(parts, r, lane * 2), product.sum_of(parts, r, lane * 2 + 1)};
                wide zr[2];
                reset_gates(here, added, a, zr);
                state_z[at] = zr[0];
                state_r[at] = zr[1];
                publish(team, 2, pass + r, (int)j, operand(zr[1] * widen(v[r * team.stride + j])));
            });
            if (FNN_EXCHANGE || pass + FNN_ROWS < rows) __syncthreads();
        }
        team_sync(team);
#endif
        for (int pass = 0; pass < rows; pass += FNN_ROWS) {
#if FNN_CELL == GRU_BEFORE
            product_n.run(staged(team, 2, pass), team.stride, parts);
#else
            product.run(staged(team, now, pass), team.stride, parts);
#endif
            __syncthreads();
            State state[FNN_PAIRS];
            wide planes[FNN_PAIRS][PLANES ? PLANES : 1];
            for_rows(pass, [&](int q, int r, i64 b) {
                const int at = (pass + r) * units + lane;
                wide a[GATES];
#if FNN_CELL == GRU_BEFORE
                a[2] = product_n.sum_of(parts, r, lane);
                planes[q][0] = state_z[at];
                planes[q][1] = state_r[at];
#else
#pragma unroll
                for (int g = 0; g < GATES; g++) a[g] = product.sum_of(parts, r, lane * GATES + g);
#endif
                state[q].h = state_h[at];
                state[q].c = FNN_CELL == LSTM ? state_c[at] : (wide)0;
                state[q] = step_unit(call, ahead[q], added, a, planes[q], state[q], t, b, j);
                State entering = state[q];
                if (ahead[q].reset_next) entering = initial_state(call, b, j);
                if (s + 1 < steps)
                    publish(team, next, pass + r, (int)j, operand(entering.h * drop_of(call, b * H + j)));
                state_h[at] = entering.h;
                if (FNN_CELL == LSTM) state_c[at] = entering.c;
            });
            const bool last = pass + FNN_ROWS >= rows;
            if (last) team_arrive(team);
            for_rows(pass, [&](int q, int, i64 b) {
                write_unit(call, out, ahead[q].live, ahead[q].steps, planes[q], state[q], t, b, j);
            });
            if (!last) look(s, pass + FNN_ROWS);
            else if (s + 1 < steps) look(s + 1, 0);
            if (!last) __syncthreads(); /* parts and stage are free again */
        }
        team_wait(team);
    }

    for (int r = row; owner && r < rows; r += at_once) {
        if (top + r >= B) continue;
        out.final_h[(top + r) * H + j] = narrow(state_h[r * units + lane]);
        if (FNN_CELL == LSTM) out.final_c[(top + r) * H + j] = narrow(state_c[r * units + lane]);
    }
}
