/* The activations that finish a convolution or a dense layer, and their derivatives written with y.
 *
 *     y = act(z)        dz = dy act'(z):   relu dy [y > 0]    tanh dy (1 - y^2)    sigmoid dy y (1 - y)
 *
 * A NaN stays a NaN. Include after vmath.h.
 */
#ifndef FNN_FUSED_H
#define FNN_FUSED_H

#include "fused_names.h"

FNN_INLINE vec fused(int activation, vec z)
{
    switch (activation) {
    case FUSED_RELU: return SELECT(z <= 0, (vec){0}, z);
    case FUSED_TANH: return vtanh(z);
    case FUSED_SIGMOID: return vsigmoid(z);
    default: return z;
    }
}

FNN_INLINE vec fused_gradient(int activation, vec dy, vec y)
{
    switch (activation) {
    case FUSED_RELU: return SELECT(y > 0, dy, (vec){0});
    case FUSED_TANH: return dy * (1 - y * y);
    case FUSED_SIGMOID: return dy * (y * (1 - y));
    default: return dy;
    }
}

#endif
