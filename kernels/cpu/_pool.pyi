from typing import Any

from numpy import ndarray

def max_forward(
    x: ndarray, window: tuple[Any, ...], data_format: str, activation: str | None, keep: bool
) -> tuple[ndarray, ndarray | None]: ...
def take_backward(
    dy: ndarray,
    offsets: ndarray,
    x_shape: tuple[int, ...],
    window: tuple[Any, ...],
    data_format: str,
) -> ndarray: ...
def average_forward(
    x: ndarray, window: tuple[Any, ...], data_format: str, count_include_pad: bool
) -> ndarray: ...
def average_backward(
    dy: ndarray,
    x_shape: tuple[int, ...],
    window: tuple[Any, ...],
    data_format: str,
    count_include_pad: bool,
) -> ndarray: ...
def stochastic_forward(
    x: ndarray, window: tuple[Any, ...], data_format: str, seed: int | None, keep: bool
) -> tuple[ndarray, ndarray | None]: ...
def stochastic_backward(
    dy: ndarray, x: ndarray, window: tuple[Any, ...], data_format: str
) -> ndarray: ...
