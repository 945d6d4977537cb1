"""Runs our .cu files without a GPU: a C++ shim of CUDA, and a stand-in for CuPy over NumPy."""
