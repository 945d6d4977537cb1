/* The recurrence backward, all steps in one launch: K0 (a block), K1 (a cluster), K2 (a grid).
 *
 * The mirror of rnn_forward.cu, from a row's last step to its first:
 *
 *     dh' , dc'  ->  da (kernels/cells)            a unit's own
 *     dh         =   passed by + D (da U^T)        U^T [G*Hp, H]: the product over all gates of all units
 *
 * A block owns `units` units again, now as columns of U^T, so the sums for its units are its own and
 * what is exchanged is da, G numbers a unit:
 *
 *     U^T  k = g Hp + j   | block 0 | 1 | 2 |      (rows: every gate of every unit)
 *                               #
 *     da [rows, G*Hp]  ->       #  -> dh -> da of its units, one step earlier -> all blocks
 *
 * Pointers: rnn_step.cuh, and
 *
 *     recurrent [G*Hp, H]   U^T, each gate's rows padded with zeros to Hp, a whole number of chunks
 *     rest                  as forward
 *     exchange, flags       of a grid, zeros on entry: [2, teams, rows, stride], [teams, blocks]
 *
 * A GRU that resets before the product needs da_n U_n^T before it can make da_r, so its step has two
 * products and two exchanges. da of all steps is written for dx, dW and dU, one large product each.
 *
 * Loop order: as forward. Exchanging da costs G times what exchanging sums of dh would, but one barrier a
 * step is enough and every sum has one order.
 */
#include "rnn_step.cuh"
#if FNN_TENSOR
#include "rnn_tiles.cuh"
#else
#include "rnn_product.cuh"
#endif
#include "rnn_team.cuh"

extern "C" __global__ void
#if FNN_EXCHANGE == 0 && FNN_CLUSTER > 1
    __cluster_dims__(FNN_CLUSTER, 1, 1)
#endif
__launch_bounds__(FNN_THREADS, 1) rnn_backward(CALL_PARAMETERS, INWARD_PARAMETERS, const real *recurrent, int Hp,
                                              int units, int rows, int shared, [[maybe_unused]] int shared_n,
                                              u8 *rest, i64 rest_size, [[maybe_unused]] i64 rest_at_n,
                                              real *exchange, unsigned *flags)
{
    const Call call = CALL_ARGUMENTS;
    const Inward in = INWARD_ARGUMENTS;
    const int first_unit = (int)blockIdx.x * units;
    const int last_unit = first_unit + units < (int)H ? first_unit + units : (int)H;
    rest += rest_size * blockIdx.x;
    if ((i64)units * gridDim.x < H) __trap(); /* a grid that was made smaller than was asked for */

    /* Shared memory: stage, weights, parts, gradients. */
    Team team = team_of(rows, row_stride(GATES * Hp), 2, exchange, flags);
    real *memory = team.stage + stage_numbers(team);
    const int K = (FNN_CELL == GRU_BEFORE ? 2 : GATES) * Hp; /* n's rows are in a product of their own */
    const Matrix<1> matrix = {recurrent, H, 0, K, first_unit, last_unit};
    const Product<1, FNN_WIDTH, FNN_REGISTERS> product(matrix, units, shared, memory, rest);
    memory += product.shared_numbers();
#if FNN_CELL == GRU_BEFORE
    const Matrix<1> matrix_n = {recurrent + 2 * Hp * H, H, 0, Hp, first_unit, last_unit};
    const Product<1, FNN_WIDTH_N, 0> product_n(matrix_n, units, shared_n, memory, rest + rest_at_n);
    memory += product_n.shared_numbers();
#endif
    wide *parts = reinterpret_cast<wide *>(memory);
    Gradient *gradients = reinterpret_cast<Gradient *>(parts + product.part_numbers());
#if FNN_CELL == GRU_BEFORE
    if (product_n.part_numbers() > product.part_numbers())
        gradients = reinterpret_cast<Gradient *>(parts + product_n.part_numbers());
#endif

    /* This thread's unit and, in each pass over FNN_ROWS rows, its rows: row, row + at_once, ... */
    const int lane = (int)threadIdx.x % units, row = (int)threadIdx.x / units, at_once = FNN_THREADS / units;
    const i64 j = first_unit + lane, top = (i64)blockIdx.y * rows;
    const bool owner = row < at_once && j < last_unit;
    const i64 steps = longest(call, top, rows);

    /* f(its number, row of the pass, row of the batch) for each of this thread's rows of a pass. */
    auto for_rows = [&](int pass, auto &&f) {
#pragma unroll
        for (int q = 0; q < FNN_PAIRS; q++) {
            const int r = row + q * at_once;
            if (owner && r < FNN_ROWS && top + pass + r < B) f(q, r, top + pass + r);
        }
    };
    /* What a step writes stays in registers until its block has arrived at the barrier. */
    wide made[FNN_PAIRS][GATES], made_q[FNN_PAIRS];
    auto publish_gradients = [&](int q, const Back &back, Gradient &d, i64 s, int r, i64 b) {
        unit_gradient(call, back, d, made[q], &made_q[q], time_of(call, steps - 1 - s, steps), b, j);
#pragma unroll
        for (int g = 0; g < GATES; g++) {
            if (FNN_CELL == GRU_BEFORE && g == 1) continue;
            const wide v = FNN_CELL == GRU_AFTER && g == 2 ? made_q[q] : made[q][g];
            publish(team, (int)(s & 1), r, g * Hp + (int)j, operand(v));
        }
    };
    auto write = [&](int q, const Back &back, i64 s, i64 b) {
        if (back.steps) write_gradients(call, in, made[q], made_q[q], time_of(call, steps - 1 - s, steps), b, j);
    };
    Back ahead[FNN_PAIRS]; /* of the step whose da is next */
    bool steps_now[FNN_PAIRS], reset_now[FNN_PAIRS];
    auto look = [&](i64 s, int pass) {
        const i64 t = time_of(call, steps - 1 - s, steps);
        for_rows(pass, [&](int q, int, i64 b) {
            const i64 length = length_of(call, b);
            steps_now[q] = t < length && !is_masked(call, t, b);
            reset_now[q] = t < length && is_reset(call, t, b);
            if (s + 1 < steps) ahead[q] = look_back(call, in, s + 1, steps, b, j, length);
        });
    };

    clear_stage(team);
    for (int pass = 0; pass < rows; pass += FNN_ROWS)
        for_rows(pass, [&](int q, int r, i64 b) {
            Gradient d = first_gradient(call, in, b, j);
            if (steps) {
                const Back back = look_back(call, in, 0, steps, b, j, length_of(call, b));
                publish_gradients(q, back, d, 0, pass + r, b);
                write(q, back, 0, b);
            }
            gradients[(pass + r) * units + lane] = d;
        });
    team_arrive(team);
    if (steps) look(0, 0);
    team_wait(team);

    for (i64 s = 0; s < steps; s++) {
        const int now = (int)(s & 1);
#if FNN_CELL == GRU_BEFORE
        const i64 t = time_of(call, steps - 1 - s, steps);
        for (int pass = 0; pass < rows; pass += FNN_ROWS) {
            product_n.run(staged(team, now, pass) + 2 * Hp, team.stride, parts);
            __syncthreads();
            for_rows(pass, [&](int, int r, i64 b) {
                const Back back = look_back(call, in, s, steps, b, j, length_of(call, b));
                const wide dp = product_n.sum_of(parts, r, lane);
                const wide da_r = reset_gradient(call, back, gradients[(pass + r) * units + lane], dp, b, j);
                publish(team, now, pass + r, Hp + (int)j, operand(da_r));
                if (back.steps) in.da[row_of(call, t, b) * (3 * H) + H + j] = narrow(da_r);
            });
            if (FNN_EXCHANGE || pass + FNN_ROWS < rows) __syncthreads();
        }
        team_sync(team);
#endif
        for (int pass = 0; pass < rows; pass += FNN_ROWS) {
            product.run(staged(team, now, pass), team.stride, parts);
            __syncthreads();
            for_rows(pass, [&](int q, int r, i64 b) {
                Gradient d = gradients[(pass + r) * units + lane];
                leave(call, d, steps_now[q], reset_now[q], product.sum_of(parts, r, lane), b, j);
                if (s + 1 < steps) publish_gradients(q, ahead[q], d, s + 1, pass + r, b);
                gradients[(pass + r) * units + lane] = d;
            });
            const bool last = pass + FNN_ROWS >= rows;
            if (last) team_arrive(team);
            if (s + 1 < steps) for_rows(pass, [&](int q, int, i64 b) { write(q, ahead[q], s + 1, b); });
            if (!last) look(s, pass + FNN_ROWS);
            else if (s + 1 < steps) look(s + 1, 0);
            if (!last) __syncthreads(); /* parts and stage are free again */
        }
        team_wait(team);
    }

    for (int r = row; owner && r < rows; r += at_once)
        if (top + r < B) write_initial(call, in, gradients[r * units + lane], top + r, j);
}
