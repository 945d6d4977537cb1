/* Simple recurrent cell: the equations of simple_rnn.py over `V`.
 *
 *     h' = act(a)        da = dh' (1 - h'^2) for tanh,  dh' [h' > 0] for relu
 *
 * The includer defines V, CELL_INLINE, cell_tanh(V) and cell_relu(V), cell_step(V) (1 where positive).
 */
CELL_INLINE V simple_rnn_state(const int relu, V a) { return relu ? cell_relu(a) : cell_tanh(a); }

CELL_INLINE V simple_rnn_backward(const int relu, V h_new, V dh)
{
    return relu ? dh * cell_step(h_new) : dh * (1 - h_new * h_new);
}
