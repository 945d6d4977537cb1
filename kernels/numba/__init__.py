"""Numba-CUDA kernels: the operations on an NVIDIA GPU, or in Numba's simulator.

Every kernel takes flat arrays in C order and integers; the modules' functions take and return
`fastnn.kernels.numba.array.DeviceArray`. Nothing here needs CuPy, a warp shuffle, an atomic or a
grid-wide barrier, so all of it runs under ``NUMBA_ENABLE_CUDASIM=1``.
"""
