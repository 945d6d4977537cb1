"""Gated recurrent unit (Cho et al. 2014), in both conventions, blocks in the order z r h.

``reset_after`` (cuDNN, PyTorch, Keras's default), with q the recurrent part of the candidate::

    z, r = sigmoid(x W_z + b_z + hm U_z + rb_z), sigmoid(x W_r + b_r + hm U_r + rb_r)
    q    = hm U_n + rb_n
    n    = tanh(x W_n + b_n + r q)
    h'   = z h + (1 - z) n

    dn   = dh' (1 - z)          da_n = dn (1 - n^2)        the gradient of x W_n + b_n
    da_z = dh' (h - n) z (1 - z)
    da_r = da_n q r (1 - r)
    dq   = da_n r
    dh   = dh' z                (and, through hm, da_z U_z^T + da_r U_r^T + dq U_n^T)

reset before (the paper), where the reset gate acts on the matrix product's input ``p = r hm``::

    n    = tanh(x W_n + b_n + p U_n + rb_n)

    dp   = da_n U_n^T
    da_r = dp hm r (1 - r)      and dp r goes to hm; the rest as above

All of shape [B, H]; hm is h under its recurrent dropout mask. The functions take arrays or scalars;
``sigmoid`` and ``tanh`` are given by the caller, and ``one`` in the scalars' type where a literal 1
would widen them (Numba).
"""


def gate(a, sigmoid):
    """z or r of its pre-activation."""
    return sigmoid(a)


def candidate(x_n, r, q, tanh):
    """n with reset_after: ``x_n = x W_n + b_n``, ``q = hm U_n + rb_n``."""
    return tanh(x_n + r * q)


def update(z, n, h, one=1):
    """h', in both conventions."""
    return z * h + (one - z) * n


def update_backward(dh, z, n, h, one=1):
    """``da_z, da_n, dh``, in both conventions."""
    return dh * (h - n) * (z * (one - z)), dh * (one - z) * (one - n * n), dh * z


def reset_backward(d, v, r, one=1):
    """``da_r`` and the gradient of v, where ``r v`` was used and ``d`` is its gradient."""
    return d * v * (r * (one - r)), d * r
