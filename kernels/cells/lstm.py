"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

With ``a = x W + b + hm U + rb``, [B, 4H], cut into four blocks in the order i f g o::

    i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)
    g  = tanh(a_g)
    c' = f c + i g
    h' = o tanh(c')

and with dh', dc' the gradients of h' and c'::

    dC   = dc' + dh' o (1 - tanh(c')^2)     everything that reaches c'
    da_i = dC g     i (1 - i)
    da_f = dC c     f (1 - f)
    da_g = dC i     (1 - g^2)
    da_o = dh' tanh(c')  o (1 - o)
    dc   = dC f

All of shape [B, H]. The functions take arrays or scalars; ``sigmoid`` and ``tanh`` are given by the
caller, and ``one`` in the scalars' type where a literal 1 would widen them (Numba).
"""


def forward(a_i, a_f, a_g, a_o, c, sigmoid, tanh):
    """The activated gates and the new state: ``i, f, g, o, h', c'``."""
    i = sigmoid(a_i)
    f = sigmoid(a_f)
    g = tanh(a_g)
    o = sigmoid(a_o)
    c_new = f * c + i * g
    return i, f, g, o, o * tanh(c_new), c_new


def backward(dh, dc, i, f, g, o, c, tanh, one=1):
    """Gradients of the pre-activations and of the previous c: ``da_i, da_f, da_g, da_o, dc``."""
    tanh_c = tanh(f * c + i * g)
    d = dc + dh * o * (one - tanh_c * tanh_c)
    return (
        d * g * (i * (one - i)),
        d * c * (f * (one - f)),
        d * i * (one - g * g),
        dh * tanh_c * (o * (one - o)),
        d * f,
    )
