"""Time series: made up ones, and windows of any."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import shapes

__all__ = ["seasonal_series", "timeseries_windows"]


def seasonal_series(
    steps: int = 4 * 365 + 1,
    *,
    period: int = 365,
    baseline: float = 10.0,
    slope: float = 0.05,
    amplitude: float = 40.0,
    noise: float = 5.0,
    phase: int = 0,
    seed: int = 42,
) -> tuple[np.ndarray, np.ndarray]:
    """A daily series with a trend, a season and noise, such as forecasting courses use.

    ``baseline + slope t + amplitude s(t) + noise n(t)`` with n standard normal and, for u the part
    of the season that has passed, ``s = cos(2 pi u)`` where u < 0.4 and ``exp(-3 u)`` after.

    Parameters
    ----------
    steps : int
        Four years by default.
    period : int
        Steps a season.
    baseline, slope, amplitude, noise : float
    phase : int
        Steps by which the season comes earlier.
    seed : int
        Of the noise.

    Returns
    -------
    time, series : float32 arrays [steps]
    """
    owner = "seasonal_series"
    steps = shapes.integer(owner, "steps", steps, 1)
    period = shapes.integer(owner, "period", period, 1)
    time = np.arange(steps, dtype="float32")
    season = ((time + phase) % period) / period
    pattern = np.where(season < 0.4, np.cos(season * 2 * np.pi), np.exp(-3 * season))
    # The old generator: with the defaults these are the course's own numbers, to which errors
    # that others found can be compared.
    random = np.random.RandomState(shapes.integer(owner, "seed", seed, 0, 2**32 - 1))
    series = baseline + slope * time + amplitude * pattern + noise * random.randn(steps)
    return time, series.astype("float32")


def timeseries_windows(
    series: Any, sequence_length: int, *, horizon: int = 1, sequence_stride: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a series, and what comes after each.

    Parameters
    ----------
    series : array [T] or [T, C]
    sequence_length : int
        Steps of a window.
    horizon : int
        Steps of a target.
    sequence_stride : int
        Steps from one window to the next.

    Returns
    -------
    x : array [N, sequence_length] or [N, sequence_length, C]
    y : array [N, horizon] or [N, horizon, C]
        Copies: changing one window changes no other.

    Raises
    ------
    ValueError
        If the series is too short for one window and its target.
    """
    owner = "timeseries_windows"
    series = np.asarray(series)
    length = shapes.integer(owner, "sequence_length", sequence_length, 1)
    horizon = shapes.integer(owner, "horizon", horizon, 1)
    stride = shapes.integer(owner, "sequence_stride", sequence_stride, 1)
    if series.ndim not in (1, 2) or len(series) < length + horizon:
        raise ValueError(
            f"[{owner}] series of shape {series.shape}, sequence_length={length}, "
            f"horizon={horizon}; [T] or [T, C] with at least {length + horizon} steps is needed"
        )
    starts = np.arange(0, len(series) - length - horizon + 1, stride)[:, None]
    return series[starts + np.arange(length)], series[starts + length + np.arange(horizon)]
