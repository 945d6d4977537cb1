"""Simple recurrent cell (Elman 1990).

    a  = x W + b + hm U + rb                [B, H]
    h' = act(a)                             act is tanh or relu

and with dh' the gradient of h'::

    da = dh' (1 - h'^2)                     tanh
    da = dh' [h' > 0]                       relu

The derivative needs h' alone, so no gates are saved. The functions take arrays or scalars; ``act``
is given by the caller, and ``one`` in the scalars' type where a literal 1 would widen them (Numba).
"""


def forward(a, act):
    """h'."""
    return act(a)


def backward_tanh(dh, h_new, one=1):
    """The gradient of a."""
    return dh * (one - h_new * h_new)


def backward_relu(dh, h_new, one=1):
    """The gradient of a."""
    return dh * (h_new > 0)
