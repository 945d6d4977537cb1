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
 *     recurrent [G*Hp, H]   U^T, each gate's rows padded with zeros to Hp, a multiple of 8
 *     exchange, flags       of a grid, zeros on entry: [2, teams, rows, G*Hp], [teams, blocks]
 *
 * A GRU that resets before the product needs da_n U_n^T before it can make da_r, so its step has two
 * products and two exchanges. da of all steps is written for dx, dW and dU, one large product each.
 *
 * Loop order: as forward. Exchanging da costs G times what exchanging sums of dh would, but one barrier a
 * step is enough and every sum has one order.
 */
#include "rnn_step.cuh"
#include "rnn_product.cuh"
#include "rnn_team.cuh"

extern "C" __global__ void
#if FNN_EXCHANGE == 0 && FNN_CLUSTER > 1
    __cluster_dims__(FNN_CLUSTER, 1, 1)
#endif
__launch_bounds__(FNN_THREADS, 1) rnn_backward(CALL_PARAMETERS, INWARD_PARAMETERS, const real *recurrent, int units,
                                              int rows, int slices, int shared, real *exchange, unsigned *flags)
{
    const Call call = CALL_ARGUMENTS;
    const Inward in = INWARD_ARGUMENTS;
    const int Hp = (int)(H + 7) / 8 * 8;
    const int first_unit = (int)blockIdx.x * units;

    /* Shared memory: stage, weights, parts, gradients. */
    Team team;
    team.rank = blockIdx.x;
    team.blocks = gridDim.x;
    team.rows = rows;
    team.stride = GATES * Hp;
    team.buffers = 2;
    team.stage = dynamic_shared<real>();
    team.exchange = exchange;
    team.flags = flags + (i64)blockIdx.y * gridDim.x;
    team.exchanges = 0;
    real *memory = team.stage + stage_rows(team.buffers, rows) * team.stride;
    const int lanes = (units + FNN_COLUMNS - 1) / FNN_COLUMNS;
    const int column = first_unit + (int)threadIdx.x % lanes * FNN_COLUMNS;
    const int end = first_unit + units < (int)H ? first_unit + units : (int)H;
    const int valid = end - column < 0 ? 0 : end - column < FNN_COLUMNS ? end - column : FNN_COLUMNS;
    const real *columns = recurrent + (valid ? column : 0);
#if FNN_CELL == GRU_BEFORE
    const int K = 2 * Hp; /* z, r; the product of n is the other */
#else
    const int K = GATES * Hp;
#endif
    const Weights<FNN_COLUMNS> weights =
        weights_of<FNN_COLUMNS>(columns, H, 1, valid, K, lanes, slices, shared, memory);
    wide kept[FNN_REGISTERS ? FNN_REGISTERS : 1][4][FNN_COLUMNS];
    keep_registers<FNN_COLUMNS, FNN_REGISTERS>(weights, kept);
    keep_shared<FNN_COLUMNS, FNN_REGISTERS>(weights);
    memory += shared * 4 * FNN_THREADS * FNN_COLUMNS;
#if FNN_CELL == GRU_BEFORE
    const Weights<FNN_COLUMNS> weights_n =
        weights_of<FNN_COLUMNS>(columns + 2 * Hp * H, H, 1, valid, Hp, lanes, slices, shared, memory);
    wide none[1][4][FNN_COLUMNS];
    keep_shared<FNN_COLUMNS, 0>(weights_n);
    memory += shared * 4 * FNN_THREADS * FNN_COLUMNS;
#endif
    wide *parts = reinterpret_cast<wide *>(memory);
    Gradient *gradients =
        reinterpret_cast<Gradient *>(parts + slices / weights.fold * FNN_ROWS * lanes * FNN_COLUMNS);

    const int row = (int)threadIdx.x / units, unit = (int)threadIdx.x % units;
    const i64 j = first_unit + unit, top = (i64)blockIdx.y * rows;
    const bool owner = row < FNN_ROWS && j < H;

    i64 steps = 0;
    for (int r = 0; r < rows; r++)
        if (top + r < B && length_of(call, top + r) > steps) steps = length_of(call, top + r);

    /* da of a row's last step, and in the loop below of the step after. */
    auto publish_gradients = [&](const Back &back, Gradient &d, i64 s, int r, i64 b) {
        const i64 t = time_of(call, steps - 1 - s, steps);
        wide da[GATES], dq;
        unit_gradient(call, back, d, da, &dq, t, b, j);
#pragma unroll
        for (int g = 0; g < GATES; g++) {
            if (FNN_CELL == GRU_BEFORE && g == 1) continue;
            const wide v = FNN_CELL == GRU_AFTER && g == 2 ? dq : da[g];
            publish(team, (int)(s & 1), r, g * Hp + (int)j, narrow(v));
        }
        if (back.steps) write_gradients(call, in, da, dq, t, b, j);
    };

    clear_stage(team);
    for (int r = row; owner && r < rows; r += FNN_ROWS) {
        const i64 b = top + r;
        if (b >= B) continue;
        Gradient d = first_gradient(call, in, b, j);
        if (steps) publish_gradients(look_back(call, in, 0, steps, b, j, length_of(call, b)), d, 0, r, b);
        gradients[r * units + unit] = d;
    }
    team_sync(team);

    for (i64 s = 0; s < steps; s++) {
        const int now = (int)(s & 1);
        const i64 t = time_of(call, steps - 1 - s, steps);
#if FNN_CELL == GRU_BEFORE
        for (int pass = 0; pass < rows; pass += FNN_ROWS) {
            const int r = pass + row;
            const i64 b = top + r;
            product<FNN_COLUMNS, 0>(weights_n, none, staged(team, now, pass) + 2 * Hp, team.stride, parts);
            __syncthreads();
            if (owner && b < B) {
                const Back back = look_back(call, in, s, steps, b, j, length_of(call, b));
                const wide da_r =
                    reset_gradient(call, back, gradients[r * units + unit], sum_of(weights_n, parts, row, unit), b, j);
                publish(team, now, r, Hp + (int)j, narrow(da_r));
                if (back.steps) in.da[row_of(call, t, b) * (3 * H) + H + j] = narrow(da_r);
            }
            if (FNN_EXCHANGE || pass + FNN_ROWS < rows) __syncthreads();
        }
        team_sync(team);
#endif
        for (int pass = 0; pass < rows; pass += FNN_ROWS) {
            const int r = pass + row;
            const i64 b = top + r;
            const i64 length = owner && b < B ? length_of(call, b) : 0;
            const bool live = t < length;
            const bool steps_now = live && !is_masked(call, t, b), reset_now = live && is_reset(call, t, b);
            Back back;
            if (owner && b < B && s + 1 < steps) back = look_back(call, in, s + 1, steps, b, j, length);
            product<FNN_COLUMNS, FNN_REGISTERS>(weights, kept, staged(team, now, pass), team.stride, parts);
            __syncthreads();
            if (owner && b < B) {
                Gradient d = gradients[r * units + unit];
                leave(call, d, steps_now, reset_now, sum_of(weights, parts, row, unit), b, j);
                if (s + 1 < steps) publish_gradients(back, d, s + 1, r, b);
                gradients[r * units + unit] = d;
            }
            if (FNN_EXCHANGE || pass + FNN_ROWS < rows) __syncthreads(); /* parts and stage are free again */
        }
        team_sync(team);
    }

    for (int r = row; owner && r < rows; r += FNN_ROWS)
        if (top + r < B) write_initial(call, in, gradients[r * units + unit], top + r, j);
}
