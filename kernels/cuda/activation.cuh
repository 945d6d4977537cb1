/* Activation functions and their derivatives, with Keras 3's constants. Codes: pointwise.py.
 *
 * activate(code, x) gives y; slope(code, dy, kept) gives dx, where kept is y, or x for softsign, silu
 * and gelu, whose derivative is not a good function of y. The code is the same for a whole launch.
 */
#ifndef FNN_ACTIVATION_CUH
#define FNN_ACTIVATION_CUH

enum {
    LINEAR, RELU, LEAKY_RELU, ELU, SELU, TANH, SIGMOID, HARD_SIGMOID, SOFTPLUS, SOFTSIGN,
    EXPONENTIAL, SILU, GELU
};

#define SELU_SCALE ((wide)1.0507009873554805)  /* Klambauer et al. 2017 */
#define SELU_ALPHA ((wide)1.6732632423543772)
#define LEAKY_SLOPE ((wide)0.2)
#define SQRT_HALF ((wide)0.70710678118654752)
#define INVERSE_SQRT_2PI ((wide)0.39894228040143268)

/* 1 / (1 + exp(-x)) with an exponential that cannot overflow. */
FNN_INLINE wide sigmoid(wide x)
{
    const wide e = exp(-fabs(x));
    return (x >= 0 ? (wide)1 : e) / (1 + e);
}

FNN_INLINE wide softplus(wide x) { return (x > 0 ? x : x != x ? x : (wide)0) + log1p(exp(-fabs(x))); }

FNN_INLINE wide normal_cdf(wide x) { return (wide)0.5 * erfc(x * -SQRT_HALF); }

FNN_INLINE wide activate(int code, wide x)
{
    switch (code) {
    case RELU: return x < 0 ? (wide)0 : x; /* a NaN stays */
    case LEAKY_RELU: return x > 0 ? x : LEAKY_SLOPE * x;
    case ELU: return x > 0 ? x : expm1(x);
    case SELU: return SELU_SCALE * (x > 0 ? x : SELU_ALPHA * expm1(x));
    case TANH: return tanh(x);
    case SIGMOID: return sigmoid(x);
    case HARD_SIGMOID: {
        const wide y = x / 6 + (wide)0.5;
        return y < 0 ? (wide)0 : y > 1 ? (wide)1 : y;
    }
    case SOFTPLUS: return softplus(x);
    case SOFTSIGN: return x / (1 + fabs(x));
    case EXPONENTIAL: return exp(x);
    case SILU: return x * sigmoid(x);
    case GELU: return x * normal_cdf(x);
    default: return x;
    }
}

/* Those that are fused into a product. Not inlined: an epilogue calls it for every register. */
static __device__ __noinline__ wide fused(int code, wide x)
{
    return code == RELU ? (x < 0 ? (wide)0 : x) : code == TANH ? tanh(x) : sigmoid(x);
}

FNN_INLINE wide activate_fused(int code, wide x) { return code == LINEAR ? x : fused(code, x); }

FNN_INLINE wide slope(int code, wide dy, wide kept)
{
    const wide one = 1;
    switch (code) {
    case RELU: return kept > 0 ? dy : (wide)0;
    case LEAKY_RELU: return kept > 0 ? dy : LEAKY_SLOPE * dy;
    case ELU: return kept > 0 ? dy : dy * (kept + 1);
    case SELU: return kept > 0 ? SELU_SCALE * dy : dy * (kept + SELU_SCALE * SELU_ALPHA);
    case TANH: return dy * (1 - kept * kept);
    case SIGMOID: return dy * (kept * (1 - kept));
    case HARD_SIGMOID: return kept > 0 && kept < 1 ? dy / 6 : (wide)0;
    case SOFTPLUS: return dy * -expm1(-kept);
    case SOFTSIGN: {
        const wide denominator = one + fabs(kept);
        return dy / (denominator * denominator);
    }
    case EXPONENTIAL: return dy * kept;
    case SILU: {
        const wide s = sigmoid(kept);
        return dy * (s + kept * s * (1 - s));
    }
    case GELU: {
        const wide density = exp((wide)-0.5 * kept * kept) * INVERSE_SQRT_2PI;
        return dy * (normal_cdf(kept) + kept * density);
    }
    default: return dy;
    }
}

#endif
