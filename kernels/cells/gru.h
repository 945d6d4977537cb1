/* Gated recurrent unit, both conventions: the equations of gru.py over `V`.
 *
 *     z, r = sigmoid(a_z), sigmoid(a_r)
 *     n    = tanh(a_n + r q)            reset_after: a_n = x W_n + b_n, q = hm U_n + rb_n
 *     n    = tanh(a_n)                  reset before: a_n = x W_n + b_n + (r hm) U_n
 *     h'   = z h + (1 - z) n
 *
 *     da_z = dh' (h - n) z (1 - z)      da_n = dh' (1 - z) (1 - n^2)     dh = dh' z
 *     da_r = da_n q r (1 - r)           dq   = da_n r                    reset_after
 *     da_r = dp hm r (1 - r)            dhm += dp r                      reset before, dp = da_n U_n^T
 *
 * The includer defines V, CELL_INLINE, cell_sigmoid(V) and cell_tanh(V).
 */
CELL_INLINE V gru_candidate(V a_n, V r, V q) { return cell_tanh(a_n + r * q); }

CELL_INLINE V gru_state(V z, V n, V h) { return z * h + (1 - z) * n; }

CELL_INLINE void gru_state_backward(V dh, V z, V n, V h, V *da_z, V *da_n, V *dh_old)
{
    *da_z = dh * (h - n) * (z * (1 - z));
    *da_n = dh * (1 - z) * (1 - n * n);
    *dh_old = dh * z;
}

/* Where r v was used and d is its gradient: v is q (reset_after) or hm (before). */
CELL_INLINE void gru_reset_backward(V d, V v, V r, V *da_r, V *dv)
{
    *da_r = d * v * (r * (1 - r));
    *dv = d * r;
}
