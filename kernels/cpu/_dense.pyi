from typing import Any

def forward(
    x: Any, kernel: Any, bias: Any, activation: str | None, packs: dict[Any, Any] | None = None
) -> Any: ...
def backward(
    dy: Any,
    x: Any,
    kernel: Any,
    y: Any,
    activation: str | None,
    with_bias: bool,
    need_dx: bool,
    out: tuple[Any, Any] = ...,
) -> tuple[Any, Any, Any]: ...
