"""The NumPy reference: the mathematics of every operation, vectorised, in float32 and float64."""
