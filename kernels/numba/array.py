"""Arrays on the device, with as much of NumPy's interface as the operations need.

A `DeviceArray` is a flat block of device memory and a layout over it. The layout is a NumPy array
whose memory is never touched: NumPy's own indexing, transposing and reshaping of it give the shape,
strides and offset of the view, without a copy and in every detail as for NumPy arrays. Arithmetic
is by NumPy's ufunc protocol, one compiled kernel for each function (`ufuncs`), and NumPy's other
functions by its function protocol (`functions`). What has no kernel is an error: nothing goes to
the host unasked.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.lib.stride_tricks import as_strided

from fastnn.kernels.numba import device as _d
from fastnn.kernels.numba import memory as device_memory
from fastnn.kernels.numba import moves

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
    base : DeviceArray, optional
        The array that this one is a view of.
    """

    __slots__ = ("_layout", "_memory", "_offset", "base")

    def __init__(self, memory, layout, offset=0, base=None):
        self._memory, self._layout, self._offset, self.base = memory, layout, offset, base

    shape = property(lambda self: self._layout.shape)
    dtype = property(lambda self: self._layout.dtype)
    strides = property(lambda self: self._layout.strides)
    ndim = property(lambda self: self._layout.ndim)
    size = property(lambda self: self._layout.size)
    nbytes = property(lambda self: self._layout.nbytes)
    flags = property(lambda self: self._layout.flags)

    def __len__(self):
        return len(self._layout)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return f"DeviceArray({self.dtype}{list(self.shape)})"

    @property
    def __cuda_array_interface__(self):
        interface = dict(self._memory.__cuda_array_interface__)
        address, read_only = interface["data"]
        interface["data"] = (address + self._offset * self.dtype.itemsize, read_only)
        interface["shape"], interface["strides"] = self.shape, self.strides
        interface["stream"] = _LEGACY_STREAM  # others wait for what is queued there
        return interface

    # ----------------------------------------------------------------------- views

    def _view(self, layout):
        here, there = (a.__array_interface__["data"][0] for a in (self._layout, layout))
        moved = (there - here) // self.dtype.itemsize if layout.size else 0
        return DeviceArray(self._memory, layout, self._offset + moved, self._root())

    def _root(self):
        return self if self.base is None else self.base

    def __getitem__(self, index):
        if type(index) is DeviceArray:
            return _functions().take(self, index, 0)
        index = index if isinstance(index, tuple) else (index,)
        for i in index:
            # A boolean would make NumPy copy the layout, whose memory is not there.
            if isinstance(i, bool) or not (
                i is None or i is Ellipsis or isinstance(i, (int, np.integer, slice))
            ):
                raise TypeError(
                    f"[DeviceArray] an index of {type(i).__name__}; integers, slices, None and ... "
                    "are needed on the device"
                    " (a DeviceArray of integers alone takes rows)"
                )
        # With an ellipsis the result is a view even of a single element; nothing is read.
        return self._view(self._layout[index if Ellipsis in index else (*index, Ellipsis)])

    def __setitem__(self, index, value):
        write(self[index], value)

    def transpose(self, *axes):
        return self._view(self._layout.transpose(*axes))

    def swapaxes(self, one, other):
        return self._view(self._layout.swapaxes(one, other))

    T = property(lambda self: self.transpose())

    def reshape(self, *shape):
        whole = contiguous(self)
        return whole._view(whole._layout.reshape(*shape))

    def ravel(self):
        return self.reshape(-1)

    def view(self, dtype):
        """The same bytes as another type of the same size."""
        if np.dtype(dtype).itemsize != self.dtype.itemsize:
            raise TypeError(f"[DeviceArray] a view of {self.dtype} as {np.dtype(dtype)}")
        memory, layout = self._memory.view(dtype), self._layout.view(dtype)
        return DeviceArray(memory, layout, self._offset, self._root())

    def copy(self):
        """The same elements in C order, in memory of their own."""
        result = empty(self.shape, self.dtype)
        write(result, self)
        return result

    def __deepcopy__(self, memo):
        return self.copy()

    def __reduce__(self):
        return to_device, (self.get(),)  # what is pickled goes through the host

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
        """Copy a host array of this shape into this array."""
        value = np.ascontiguousarray(value, self.dtype)
        if value.shape != self.shape:
            raise ValueError(f"[DeviceArray] set of {value.shape}; {self.shape} is needed")
        if not self.flags.c_contiguous:
            write(self, value)
        elif self.size:
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

    def __str__(self):
        return str(self.get())

    def item(self):
        return self.get().item()

    # ----------------------------------------------------------------------- arithmetic

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        from fastnn.kernels.numba import ufuncs

        if not all(map(_known, inputs)):
            return NotImplemented
        if ufunc is np.matmul and method == "__call__" and not kwargs and out is None:
            return _functions().matmul(*inputs)
        if method != "__call__" or kwargs or not ufuncs.known(ufunc):
            words = ufunc.__name__ + ("" if method == "__call__" else f".{method}")
            options = f" with {', '.join(kwargs)}" if kwargs else ""
            raise TypeError(_no_kernel(words + options))
        return ufuncs.apply(ufunc, inputs, None if out is None else out[0])

    def __array_function__(self, function, types, args, kwargs):
        if not all(issubclass(t, (DeviceArray, np.ndarray)) for t in types):
            return NotImplemented
        own = _functions().TABLE.get(function)
        if own is None:
            raise TypeError(_no_kernel(function.__name__))
        return own(*args, **kwargs)

    def astype(self, dtype, copy=True):
        if np.dtype(dtype) == self.dtype and not copy:
            return self
        result = empty(self.shape, dtype)
        write(result, self)
        return result

    def sum(self, axis=None, dtype=None, keepdims=False):
        return _reductions().total(self, axis, dtype, keepdims)

    def mean(self, axis=None, keepdims=False):
        return _reductions().mean(self, axis, keepdims)

    def any(self, axis=None, keepdims=False):
        return _reductions().reduce("any", self, axis, keepdims)

    def all(self, axis=None, keepdims=False):
        return _reductions().reduce("all", self, axis, keepdims)

    def min(self, axis=None, keepdims=False):
        return _reductions().reduce("min", self, axis, keepdims)

    def max(self, axis=None, keepdims=False):
        return _reductions().reduce("max", self, axis, keepdims)

    def argmax(self, axis=None):
        return _reductions().argmax(self, axis)

    def take(self, indices, axis=None):
        return _functions().take(self, indices, axis)

    def repeat(self, repeats, axis=None):
        return _functions().repeat(self, repeats, axis)

    def squeeze(self, axis=None):
        return self._view(self._layout.squeeze(axis))


def _known(x):
    """Whether an operand of a function is nothing that has its own idea of the function."""
    return isinstance(x, (DeviceArray, np.ndarray)) or not hasattr(x, "__array_ufunc__")


def _functions():
    from fastnn.kernels.numba import functions  # it imports this module

    return functions


def _reductions():
    from fastnn.kernels.numba import reductions  # it imports this module

    return reductions


def _no_kernel(name):
    return f"[DeviceArray] np.{name} has no kernel here; .get(), a NumPy array, is needed"


# --------------------------------------------------------------------------- making arrays


def allocate(count, dtype):
    """Flat device memory; every array of this package comes from here or from `upload`."""
    return device_memory.allocate(count, dtype)


def upload(vector):
    """A flat NumPy array on the device."""
    there = allocate(vector.size, vector.dtype)
    there.copy_to_device(vector)
    return there


def empty(shape, dtype):
    """Memory of this shape, its values unknown."""
    return _over(allocate(math.prod(shape), dtype), shape, dtype)


def zeros(shape, dtype):
    """An array of zeros."""
    array = empty(shape, dtype)
    write(array, 0)
    return array


def to_device(x):
    """A NumPy array, copied to the device with its axes in the same order in memory."""
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
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
    _d.spread(moves.gather, x.size, x._memory, x._offset, x.shape, strides, flat(result))
    return result


def flat(x):
    """The elements of a DeviceArray in C order, as the flat array that kernels take."""
    if x._offset == 0 and x._memory.size == x.size:
        return x._memory
    if x.size == 0:
        return allocate(0, x.dtype)
    return x._memory[x._offset : x._offset + x.size]


def write(target, value):
    """``target[...] = value``, of a device array, a NumPy array or a number."""
    if isinstance(value, np.ndarray):
        value = to_device(value)
    elif hasattr(value, "__cuda_array_interface__") or getattr(value, "__cuda_ndarray__", False):
        value = wrap(value)
    if type(value) is DeviceArray and target.dtype == bool != value.dtype:
        value = value != 0
    if type(value) is not DeviceArray:
        source, whole = np.full(1, value, target.dtype)[0], False
    else:
        if value.shape != target.shape:
            value = value._view(np.broadcast_to(value._layout, target.shape))
        # Elements that are read after they were written: a[1:] = a[:-1].
        source = flat(value.copy() if overlap(value, target) else contiguous(value))
        whole = True
    if target._layout.flags.c_contiguous:
        _d.spread(moves.copy if whole else moves.fill, target.size, source, flat(target))
        return
    strides = tuple(s // target.dtype.itemsize for s in target.strides)
    place = target._memory, target._offset, target.shape, strides
    _d.spread(moves.scatter if whole else moves.fill_places, target.size, source, *place)


def overlap(one, other):
    """Whether two arrays may share memory, unless they are the same elements in the same order."""
    if one._root() is not other._root():
        return False
    return (one._offset, one.shape, one.strides) != (other._offset, other.shape, other.strides)


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
