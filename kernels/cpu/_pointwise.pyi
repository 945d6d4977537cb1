from typing import Any

from numpy import ndarray

def activation_forward(x: ndarray, activation: str) -> ndarray: ...
def activation_backward(dy: ndarray, kept: ndarray, activation: str) -> ndarray: ...
def dropout(x: ndarray, rate: float, seed: int, noise_shape: tuple[int, ...]) -> ndarray: ...
def random_uniform(shape: tuple[int, ...], seed: int, stream: int, dtype: str) -> ndarray: ...
def embedding_forward(indices: ndarray, table: ndarray) -> ndarray: ...
def embedding_backward(dy: ndarray, indices: ndarray, table_shape: tuple[int, int]) -> ndarray: ...
def loss_forward(
    y_true: ndarray,
    y_pred: ndarray,
    loss: str,
    from_logits: bool,
    delta: float,
    sample_weight: Any,
    keep: bool,
) -> tuple[float, ndarray | None]: ...
def sgd_update(
    weight: ndarray,
    gradient: ndarray,
    velocity: ndarray | None,
    rate: float,
    momentum: float,
    nesterov: bool,
) -> None: ...
def rmsprop_update(
    weight: ndarray,
    gradient: ndarray,
    velocity: ndarray,
    momentum: ndarray | None,
    average: ndarray | None,
    share: float,
    rate: float,
    decay: float,
    epsilon: float,
) -> None: ...
def adam_update(
    weight: ndarray,
    gradient: ndarray,
    m: ndarray,
    v: ndarray,
    largest: ndarray | None,
    share_m: float,
    share_v: float,
    alpha: float,
    epsilon: float,
) -> None: ...
def _vmath(name: str, x: ndarray) -> ndarray: ...
