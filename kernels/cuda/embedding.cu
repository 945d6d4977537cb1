/* Rows of a table by their indices, and the gradient of the table without atomics.
 *
 *     gather          y[n] = table[indices[n]]
 *     chunk_heads     heads[k] = the sum of the run of equal indices that chunk k begins with
 *     segment_sums    dtable[v] = sum of dy[n] over the n with index v, in the order of n
 *
 * For the gradient the places n come sorted by index (stable, so in order within an index):
 * sorted[i], and order[i] = n. A run of equal indices is summed by the threads that own its first
 * place; a long run (padding, a frequent word) was summed before in chunks of 32 places:
 *
 *     sorted   2 2 5 5 | 5 5 5 5 | 5 7 7 9        chunks of 4 here
 *              ^   ^         head    ^   ^        5: own 2 rows + head 1 (4 rows) + head 2 (1 row)
 *
 * An index outside the table (which ops refuse) reads and writes nothing; its row of y is NaN.
 */
#include "device.cuh"

#define CHUNK 32

extern "C" __global__ void gather(const long long *indices, const real *table, real *y, Offset count,
                                  Offset rows, Offset columns)
{
    for (Offset i = thread_index(); i < count * columns; i += thread_count()) {
        const Offset n = i / columns, v = indices[n];
        if (v >= 0 && v < rows)
            y[i] = table[v * columns + i % columns];
        else
            store(y + i, (wide)__longlong_as_double(0x7ff8000000000000LL));
    }
}

/* The rows of the run at `place`, up to the end of its chunk. */
FNN_INLINE wide run_in_chunk(const long long *sorted, const long long *order, const real *dy,
                             Offset count, Offset columns, Offset place, Offset column)
{
    const Offset end = (place / CHUNK + 1) * CHUNK, stop = end < count ? end : count;
    const long long v = sorted[place];
    wide sum = 0;
    for (Offset i = place; i < stop && sorted[i] == v; i++)
        sum += load(dy + order[i] * columns + column);
    return sum;
}

extern "C" __global__ void chunk_heads(const long long *sorted, const long long *order,
                                       const real *dy, wide *heads, Offset count, Offset columns)
{
    const Offset chunks = (count + CHUNK - 1) / CHUNK;
    for (Offset i = thread_index(); i < chunks * columns; i += thread_count())
        heads[i] = run_in_chunk(sorted, order, dy, count, columns, i / columns * CHUNK, i % columns);
}

extern "C" __global__ void segment_sums(const long long *sorted, const long long *order,
                                        const real *dy, const wide *heads, real *dtable,
                                        Offset count, Offset rows, Offset columns)
{
    for (Offset i = thread_index(); i < count * columns; i += thread_count()) {
        const Offset place = i / columns, column = i % columns;
        const long long v = sorted[place];
        if ((place && sorted[place - 1] == v) || v < 0 || v >= rows)
            continue;
        wide sum = run_in_chunk(sorted, order, dy, count, columns, place, column);
        for (Offset chunk = place / CHUNK + 1; chunk * CHUNK < count; chunk++) {
            if (sorted[chunk * CHUNK] != v)
                break;
            sum += heads[chunk * columns + column];
        }
        store(dtable + v * columns + column, sum);
    }
}
