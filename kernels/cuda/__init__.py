"""CUDA kernels of the cupy backend: .cu files, and the Python that launches them."""
