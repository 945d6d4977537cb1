/* The activations that a product can end in (fused.h), by the numbers that the bindings use. */
#ifndef FNN_FUSED_NAMES_H
#define FNN_FUSED_NAMES_H

enum { FUSED_NONE, FUSED_RELU, FUSED_TANH, FUSED_SIGMOID };

#endif
