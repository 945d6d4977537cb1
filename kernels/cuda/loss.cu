/* Losses over samples, the rows of y_pred [samples, columns], with the gradient by y_pred.
 *
 *     loss_rows    values[n] = w_n value_n (float64), grad = w_n d value_n / d y_pred / samples
 *     loss_mean    value = sum of values / samples, by one block in a fixed order
 *
 * A sample's value is the mean over its columns, or, over classes, the sum:
 *
 *     squared      e^2             2 e              e = p - t
 *     absolute     |e|             sign e
 *     huber        e^2 / 2, or d (|e| - d / 2)      clip(e, -d, d)
 *     binary       -t log q - (1 - t) log(1 - q)    (q - t) / (q (1 - q)); of logits s(p) - t
 *     categorical  -sum t log q, q = p / sum p;     of logits q sum t - t, q = softmax p
 *
 * Probabilities are kept 1e-7 away from 0 and 1, and do not move where they were not. Labels are
 * int64; y_true is null for them, and they are null for everything else. A label outside the classes
 * (which ops refuse) reads nothing: its value is NaN.
 */
#include "device.cuh"

#include "rows.cuh"

enum { SQUARED, ABSOLUTE, HUBER, BINARY, CATEGORICAL };

#define EPSILON ((wide)1e-7)

struct Term {
    wide value, slope;
};

FNN_INLINE wide clipped(wide p)
{
    const wide low = EPSILON, high = 1 - EPSILON;
    return p < low ? low : p > high ? high : p;
}

FNN_INLINE Term term(int kind, bool logits, wide t, wide p, wide delta)
{
    const wide e = p - t, a = fabs(e);
    switch (kind) {
    case SQUARED: return {e * e, 2 * e};
    case ABSOLUTE: return {a, e > 0 ? (wide)1 : e < 0 ? (wide)-1 : e};
    case HUBER:
        return {a <= delta ? (wide)0.5 * e * e : delta * (a - (wide)0.5 * delta),
                e < -delta ? -delta : e > delta ? delta : e};
    default:
        if (logits) {
            const wide s = exp(-fabs(p));
            return {(p < 0 ? (wide)0 : p) - p * t + log1p(s),
                    (p >= 0 ? (wide)1 : s) / (1 + s) - t};
        }
        const wide q = clipped(p);
        return {-(t * log(q) + (1 - t) * log1p(-q)),
                q == p ? (q - t) / (q * (1 - q)) : p != p ? p : (wide)0};
    }
}

struct Sample {
    Offset start, columns, label;
    const real *t;
    bool sparse;

    __device__ __forceinline__ wide target(Offset c) const
    {
        return sparse ? (c == label ? (wide)1 : (wide)0) : load(t + start + c);
    }
};

extern "C" __global__ void loss_rows(const real *y_true, const long long *labels,
                                     const real *y_pred, const real *weight, double *values,
                                     real *grad, Offset samples, Offset columns, int group, int kind,
                                     int logits, wide delta)
{
    for (Rows row(group); row.index < samples; row.next()) {
        const Offset start = row.index * columns;
        const real *p = y_pred + start;
        const wide w = weight ? load(weight + row.index) : (wide)1;
        wide value = 0;
        if (kind != CATEGORICAL) {
            const wide share = w / (wide)columns / (wide)samples;
            for (Offset c = row.lane; c < columns; c += group) {
                const Term one = term(kind, logits, load(y_true + start + c), load(p + c), delta);
                value += one.value;
                if (grad)
                    store(grad + start + c, one.slope * share);
            }
            value = row.sum(value) / (wide)columns;
        } else {
            const Sample sample = {start, columns, labels ? labels[row.index] : 0, y_true,
                                   labels != nullptr};
            const bool outside = sample.label < 0 || sample.label >= columns;
            if (logits) {
                const Shifted s = row.shifted(p, columns);
                const wide shift = s.most + log(s.sum);
                wide mass = 0;
                for (Offset c = row.lane; c < columns; c += group) {
                    const wide t = sample.target(c);
                    mass += t;
                    /* As the reference: of an infinite loss with a target of 0, NaN. */
                    value -= t * (load(p + c) - shift);
                }
                mass = row.sum(mass);
                value = row.sum(value);
                if (grad)
                    for (Offset c = row.lane; c < columns; c += group) {
                        const wide q = exp(load(p + c) - shift);
                        store(grad + start + c, (q * mass - sample.target(c)) * w / (wide)samples);
                    }
            } else {
                wide total = 0, through = 0;
                for (Offset c = row.lane; c < columns; c += group)
                    total += load(p + c);
                total = row.sum(total);
                for (Offset c = row.lane; c < columns; c += group) {
                    const wide v = load(p + c), q = v / total, held = clipped(q);
                    const wide t = sample.target(c);
                    value -= t * log(held);
                    through += (held == q ? -t / held : (wide)0) * v;
                }
                value = row.sum(value);
                through = row.sum(through) / total;
                if (grad)
                    for (Offset c = row.lane; c < columns; c += group) {
                        const wide q = load(p + c) / total, held = clipped(q);
                        const wide g = held == q ? -sample.target(c) / held : (wide)0;
                        store(grad + start + c, (g - through) / total * w / (wide)samples);
                    }
            }
            if (outside)
                value = (wide)__longlong_as_double(0x7ff8000000000000LL);
        }
        if (row.lane == 0)
            values[row.index] = (double)(value * w);
    }
}

extern "C" __global__ void loss_mean(const double *values, double *value, Offset samples)
{
    __shared__ double slots[FNN_WARP];
    double sum = 0;
    for (Offset n = threadIdx.x; n < samples; n += blockDim.x)
        sum += values[n];
    sum = block_sum(sum, slots);
    if (threadIdx.x == 0)
        value[0] = samples ? sum / (double)samples : 0.0;
}
