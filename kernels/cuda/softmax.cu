/* Softmax and its logarithm over the last axis, of x [rows, columns], contiguous.
 *
 *     softmax_forward    y = e / sum e, e = exp(x - max x);      log: y = x - max x - log sum e
 *     softmax_backward   dx = y (dy - sum dy y);                 log: dx = dy - exp(y) sum dy
 *
 * A group of `group` lanes (a power of two up to a warp) has a row; a block has 256 / group rows.
 * Three passes over the row, of which all but the first come from a cache.
 */
#include "device.cuh"

#include "rows.cuh"

extern "C" __global__ void softmax_forward(const real *x, real *y, Offset rows, Offset columns,
                                           int group, int logarithm)
{
    for (Rows row(group); row.index < rows; row.next()) {
        const real *from = x + row.index * columns;
        real *to = y + row.index * columns;
        const Shifted s = row.shifted(from, columns);
        for (Offset c = row.lane; c < columns; c += group) {
            const wide v = load(from + c) - s.most;
            store(to + c, logarithm ? v - log(s.sum) : exp(v) / s.sum);
        }
    }
}

extern "C" __global__ void softmax_backward(const real *dy, const real *y, real *dx, Offset rows,
                                            Offset columns, int group, int logarithm)
{
    for (Rows row(group); row.index < rows; row.next()) {
        const Offset start = row.index * columns;
        wide sum = 0;
        for (Offset c = row.lane; c < columns; c += group)
            sum += load(dy + start + c) * (logarithm ? (wide)1 : load(y + start + c));
        sum = row.sum(sum);
        for (Offset c = row.lane; c < columns; c += group) {
            const wide d = load(dy + start + c), v = load(y + start + c);
            store(dx + start + c, logarithm ? d - exp(v) * sum : v * (d - sum));
        }
    }
}
