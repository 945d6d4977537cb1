"""For every family's binding, what an array is to C: its data and its strides in numbers.

    from kernels.cpu.arrays cimport data, step
"""

cimport numpy as cnp


cdef inline void *data(cnp.ndarray a) noexcept:
    """The first number, or NULL for None."""
    return cnp.PyArray_DATA(a) if a is not None else NULL


cdef inline long step(cnp.ndarray a, int axis) noexcept:
    """The stride of an axis in numbers."""
    return cnp.PyArray_STRIDE(a, axis) // cnp.PyArray_ITEMSIZE(a)


cdef inline bint whole_strides(cnp.ndarray a) noexcept:
    """Whether it is aligned and its strides are whole items: not so in a packed record."""
    cdef int axis
    if not cnp.PyArray_ISALIGNED(a):
        return False
    for axis in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_STRIDE(a, axis) % cnp.PyArray_ITEMSIZE(a):
            return False
    return True


cdef inline tuple place(a):
    """Where an array lies: with its dtype, what tells weights apart that do not change."""
    return () if a is None else (<size_t> cnp.PyArray_DATA(<cnp.ndarray> a), a.shape, a.strides)
