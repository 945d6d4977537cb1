"""The kernels, installed as ``fastnn.kernels``. Nothing in here imports the rest of fastnn."""
