"""fastnn against other libraries on the same work: ``python -m fastnn bench``.

========================  ==========================================================================
`fastnn.bench.rows`       what is measured: shapes as data
`fastnn.bench.inputs`     the arrays of a row
`fastnn.bench.jobs`       what a participant offers for a row
`fastnn.bench.ours`       fastnn as a participant; the others are in `fastnn.bench.peers`
`fastnn.bench.worker`     the process in which one participant computes
`fastnn.bench.process`    the other end of its pipe
`fastnn.bench.compare`    whether two participants computed the same
`fastnn.bench.measure`    the turns, and what they took
`fastnn.bench.busy`       processes that keep cores busy meanwhile
`fastnn.bench.options`    what the options of a recurrent layer cost
`fastnn.bench.memory`     what a training step of a recurrent layer holds
`fastnn.bench.report`     tables; `fastnn.bench.chart`: the picture
========================  ==========================================================================

Nothing here is imported by the rest of fastnn, except when the command runs.
"""
