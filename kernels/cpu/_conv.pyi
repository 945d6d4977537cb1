from typing import Any

def _set_engine(name: str) -> None: ...
def _set_winograd(allowed: bool) -> None: ...
def im2col(x: Any, window: Any) -> Any: ...
def col2im(cols: Any, x_shape: tuple[int, ...], window: Any) -> Any: ...
def forward(
    x: Any,
    kernel: Any,
    bias: Any,
    window: Any,
    groups: int,
    data_format: str,
    activation: str | None,
    packs: dict[Any, Any] | None = None,
) -> Any: ...
def backward(
    dy: Any,
    x: Any,
    kernel: Any,
    y: Any,
    window: Any,
    groups: int,
    data_format: str,
    activation: str | None,
    with_bias: bool,
    need_dx: bool,
) -> tuple[Any, Any, Any]: ...
