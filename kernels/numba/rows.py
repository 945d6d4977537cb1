"""Work on rows ``[N, C]`` in which the threads of a row have to agree on a sum or a maximum.

A block is LANES x ROWS threads: a row's lanes take its columns in turn and meet in shared memory.
All threads of a block come to every barrier; those of a row that is not there bring zeros.
"""

from __future__ import annotations

from numba import cuda

from fastnn.kernels.numba import device as _d

_BLOCK = _d.THREADS


def fold(combine):
    """A device function ``(value, buffer)`` that combines the values of a row's lanes.

    The order is fixed, and all lanes know the result.
    """

    @_d.device
    def meet(value, buffer):
        lane, lanes = cuda.threadIdx.x, cuda.blockDim.x
        base = cuda.threadIdx.y * lanes
        buffer[base + lane] = value
        cuda.syncthreads()
        half = lanes // 2
        while half > 0:
            if lane < half:
                buffer[base + lane] = combine(buffer[base + lane], buffer[base + lane + half])
            cuda.syncthreads()
            half //= 2
        result = buffer[base]
        cuda.syncthreads()
        return result

    return meet


row_sum = fold(_d.device(lambda a, b: a + b))
row_max = fold(_d.maximum)  # NaN if there is one


def by_rows(function, rows, columns, first, *args):
    """Run a kernel ``(rows, columns, first, *args)`` with enough lanes for the columns.

    Its shared memory holds a number of the dtype of ``first`` for each thread.
    """
    if rows == 0:
        return
    lanes = 1
    while lanes < columns and lanes < _BLOCK:
        lanes *= 2
    height = _BLOCK // lanes
    blocks = min(-(-rows // height), 2 if _d.SIMULATED else 132 * 16)
    shared = lanes * height * first.dtype.itemsize
    _d.launch(function, blocks, (lanes, height), rows, columns, first, *args, shared=shared)
