/* Long short-term memory: the equations of lstm.py over `V` (float, double or a SIMD vector).
 *
 *     i, f, o = sigmoid(a_i), sigmoid(a_f), sigmoid(a_o)      g = tanh(a_g)
 *     c' = f c + i g                                          h' = o tanh(c')
 *
 *     dC   = dc' + dh' o (1 - tanh(c')^2)
 *     da_i = dC g i (1 - i)      da_f = dC c f (1 - f)
 *     da_g = dC i (1 - g^2)      da_o = dh' tanh(c') o (1 - o)
 *     dc   = dC f
 *
 * The includer defines V, CELL_INLINE, cell_sigmoid(V) and cell_tanh(V). Arrays are in the order
 * i f g o. `lstm_gates` may be called with `g` and `a` the same.
 */
CELL_INLINE void lstm_gates(const V *a, V *g)
{
    g[0] = cell_sigmoid(a[0]);
    g[1] = cell_sigmoid(a[1]);
    g[2] = cell_tanh(a[2]);
    g[3] = cell_sigmoid(a[3]);
}

CELL_INLINE void lstm_state(const V *g, V c, V *c_new, V *h_new)
{
    *c_new = g[1] * c + g[0] * g[2];
    *h_new = g[3] * cell_tanh(*c_new);
}

/* dc: in, the gradient of c'; out, that of c. */
CELL_INLINE void lstm_backward(const V *g, V c, V dh, V *dc, V *da)
{
    V t = cell_tanh(g[1] * c + g[0] * g[2]);
    V d = *dc + dh * g[3] * (1 - t * t);
    da[0] = d * g[2] * (g[0] * (1 - g[0]));
    da[1] = d * c * (g[1] * (1 - g[1]));
    da[2] = d * g[0] * (1 - g[2] * g[2]);
    da[3] = dh * t * (g[3] * (1 - g[3]));
    *dc = d * g[1];
}
