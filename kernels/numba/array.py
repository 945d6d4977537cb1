"""Arrays on the device, with as much of NumPy's interface as the operations need.

A `DeviceArray` is a flat block of device memory and a layout over it. The layout is a NumPy array
whose memory is never touched: NumPy's own indexing, transposing and reshaping of it give the shape,
strides and offset of the view, without a copy and in every detail as for NumPy arrays. Arithmetic
is by NumPy's ufunc protocol, one compiled kernel for each function.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import as_strided

from fastnn.kernels.numba import device as _d

_LEGACY_STREAM = 1  # in the CUDA array interface; the stream that our kernels run on


class DeviceArray(NDArrayOperatorsMixin):
    """An array in device memory.

    Parameters
    ----------
    memory : flat Numba device array
    layout : ndarray
        Gives shape, dtype and strides; its memory is not touched.
    offset : int
        Of the first element, in elements of ``memory``.
    """

    __slots__ = ("_layout", "_memory", "_offset")

    def __init__(self, memory, layout, offset=0):
        self._memory, self._layout, self._offset = memory, layout, offset

    shape = property(lambda self: self._layout.shape)
    dtype = property(lambda self: self._layout.dtype)
    strides = property(lambda self: self._layout.strides)
    ndim = property(lambda self: self._layout.ndim)
    size = property(lambda self: self._layout.size)
    nbytes = property(lambda self: self._layout.nbytes)
    flags = property(lambda self: self._layout.flags)

    def __len__(self):
        return len(self._layout)

    def __repr__(self):
        return f"DeviceArray({self.dtype}{list(self.shape)})"

    @property
    def __cuda_array_interface__(self):
        interface = dict(self._memory.__cuda_array_interface__)
        address, read_only = interface["data"]
        interface["data"] = (address + self._offset * self.dtype.itemsize, read_only)
        interface["shape"], interface["strides"] = self.shape, self.strides
        return interface

    # ----------------------------------------------------------------------- views

    def _view(self, layout):
        here, there = (a.__array_interface__["data"][0] for a in (self._layout, layout))
        moved = (there - here) // self.dtype.itemsize if layout.size else 0
        return DeviceArray(self._memory, layout, self._offset + moved)

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        for i in index:
            if not (i is None or i is Ellipsis or isinstance(i, (int, np.integer, slice))):
                raise TypeError(
                    f"[DeviceArray] an index of {type(i).__name__}; integers, slices, None and ... "
                    "are needed on the device"
                )
        # With an ellipsis the result is a view even of a single element; nothing is read.
        return self._view(self._layout[index if Ellipsis in index else (*index, Ellipsis)])

    def transpose(self, *axes):
        return self._view(self._layout.transpose(*axes))

    def swapaxes(self, one, other):
        return self._view(self._layout.swapaxes(one, other))

    T = property(lambda self: self.transpose())

    def reshape(self, *shape):
        whole = contiguous(self)
        return whole._view(whole._layout.reshape(*shape))

    def view(self, dtype):
        """The same bytes as another type of the same size."""
        if np.dtype(dtype).itemsize != self.dtype.itemsize:
            raise TypeError(f"[DeviceArray] a view of {self.dtype} as {np.dtype(dtype)}")
        return DeviceArray(self._memory.view(dtype), self._layout.view(dtype), self._offset)

    # ----------------------------------------------------------------------- to the host and back

    def get(self):
        """A copy on the host, its axes in memory in the order in which they are here."""
        if not self.size:
            return np.empty(self.shape, self.dtype)
        axes = _memory_order(self)
        whole = contiguous(self.transpose(axes))
        host = flat(whole).copy_to_host().reshape(whole.shape)
        return host.transpose(np.argsort(axes))

    def set(self, value):
        """Copy a host array of this shape into this array, which must be in C order."""
        if not self.flags.c_contiguous:
            raise ValueError("[DeviceArray] set on a strided view; an array in C order is needed")
        value = np.ascontiguousarray(value, self.dtype)
        if value.shape != self.shape:
            raise ValueError(f"[DeviceArray] set of {value.shape}; {self.shape} is needed")
        if self.size:
            flat(self).copy_to_device(value.reshape(-1))

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError("[DeviceArray] a copy is needed to bring it to the host")
        return self.get() if dtype is None else self.get().astype(dtype)

    def __float__(self):
        return float(self.get().item())

    def __int__(self):
        return int(self.get().item())

    def __bool__(self):
        return bool(self.get().item())

    # ----------------------------------------------------------------------- arithmetic

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        from fastnn.kernels.numba import ufuncs

        if method != "__call__" or kwargs or not ufuncs.known(ufunc):
            return NotImplemented
        return ufuncs.apply(ufunc, inputs)

    def __array_function__(self, function, types, args, kwargs):
        if function is not np.broadcast_to:
            return NotImplemented
        array, shape = args
        return array._view(np.broadcast_to(array._layout, shape))

    def astype(self, dtype, copy=True):
        from fastnn.kernels.numba import ufuncs

        if np.dtype(dtype) == self.dtype and not copy:
            return self
        return ufuncs.convert(self, dtype)

    def any(self):
        from fastnn.kernels.numba import ufuncs

        return ufuncs.any_true(self)

    def min(self):
        from fastnn.kernels.numba import ufuncs

        return ufuncs.extreme(self, least=True)

    def max(self):
        from fastnn.kernels.numba import ufuncs

        return ufuncs.extreme(self, least=False)


# --------------------------------------------------------------------------- making arrays


def allocate(count, dtype):
    """Flat device memory; every array of this package comes from here or from `upload`."""
    return cuda.device_array(count, dtype)


def upload(vector):
    """A flat NumPy array on the device."""
    return cuda.to_device(vector)


def empty(shape, dtype):
    """Memory of this shape, its values unknown."""
    return _over(allocate(math.prod(shape), dtype), shape, dtype)


def zeros(shape, dtype):
    """An array of zeros."""
    array = empty(shape, dtype)
    _d.spread(_fill_zero, array.size, flat(array))
    return array


def to_device(x):
    """A NumPy array, copied to the device with its axes in the same order in memory."""
    if not x.size:
        return empty(x.shape, x.dtype)
    axes = _memory_order(x)
    whole = x.transpose(axes)
    memory = upload(np.ascontiguousarray(whole).reshape(-1))
    return _over(memory, whole.shape, x.dtype).transpose(np.argsort(axes))


def wrap(x):
    """Another library's device array, without a copy; a DeviceArray as it is.

    ``x`` has ``__cuda_array_interface__``, or is an array of Numba's simulator.
    """
    if type(x) is DeviceArray:
        return x
    if _d.SIMULATED:
        shape, strides, dtype = tuple(x.shape), x.strides, x.dtype
    else:
        interface = x.__cuda_array_interface__
        shape, dtype = tuple(interface["shape"]), np.dtype(interface["typestr"])
        strides = interface.get("strides") or _c_strides(shape, dtype)
    if 0 in shape:
        return empty(shape, dtype)
    reach = [(n - 1) * s // dtype.itemsize for n, s in zip(shape, strides, strict=True)]
    low = sum(r for r in reach if r < 0)
    count = sum(r for r in reach if r > 0) - low + 1
    memory = _memory_of(x, low, count, dtype)
    return DeviceArray(memory, _layout(shape, dtype, strides), -low)


def contiguous(x):
    """``x`` itself if its elements lie in C order, else a copy that does."""
    if x._layout.flags.c_contiguous:
        return x
    result = empty(x.shape, x.dtype)
    strides = tuple(s // x.dtype.itemsize for s in x.strides)
    _d.spread(_gather, x.size, x._memory, x._offset, x.shape, strides, flat(result))
    return result


def flat(x):
    """The elements of a DeviceArray in C order, as the flat array that kernels take."""
    if x._offset == 0 and x._memory.size == x.size:
        return x._memory
    if x.size == 0:
        return allocate(0, x.dtype)
    return x._memory[x._offset : x._offset + x.size]


def _memory_order(x):
    """The axes from the one with the largest steps to the one with the smallest."""
    return sorted(range(x.ndim), key=lambda axis: -abs(x.strides[axis]))


def _c_strides(shape, dtype):
    strides, step = [], dtype.itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def _layout(shape, dtype, strides):
    return as_strided(np.empty(1, dtype), shape, strides)


def _over(memory, shape, dtype):
    dtype = np.dtype(dtype)
    return DeviceArray(memory, _layout(shape, dtype, _c_strides(shape, dtype)))


class _Window:
    """A part of another library's memory, in the CUDA array interface."""

    def __init__(self, owner, interface):
        self.owner, self.__cuda_array_interface__ = owner, interface


def _memory_of(x, low, count, dtype):
    if _d.SIMULATED:
        host = x._ary
        first = host[tuple(slice(None, None, -1 if s < 0 else 1) for s in host.strides)]
        return type(x)(as_strided(first, (count,), (dtype.itemsize,)))
    interface = dict(x.__cuda_array_interface__)
    address, read_only = interface["data"]
    interface["data"] = (address + low * dtype.itemsize, read_only)
    interface["shape"], interface["strides"] = (count,), None
    # Work on the legacy default stream is in order with ours; any other has to be waited for.
    foreign = interface.get("stream") not in (None, _LEGACY_STREAM)
    return cuda.as_cuda_array(_Window(x, interface), sync=foreign)


@_d.kernel
def _fill_zero(count, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        out[i] = 0


@_d.kernel
def _gather(count, source, offset, shape, strides, out):
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        rest, at = i, offset
        for axis in range(len(shape) - 1, -1, -1):
            at += rest % shape[axis] * strides[axis]
            rest //= shape[axis]
        out[i] = source[at]
