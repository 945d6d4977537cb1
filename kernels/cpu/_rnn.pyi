from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

def forward(
    x: Array,
    weights: Any,
    initial: Any,
    spec: Any,
    keep: str | None,
    packs: dict[Any, Any] | None = None,
) -> tuple[Array, Array, Array | None, Array | None, Array | None]: ...
def backward(
    dy: Array | None,
    d_final_h: Array | None,
    d_final_c: Array | None,
    d_states_h: Array | None,
    d_states_c: Array | None,
    saved: Any,
    need_dx: bool,
) -> tuple[Array | None, Array, Array, Array | None, Array | None, Array, Array | None]: ...
def forward_pair(
    first: Sequence[Any], second: Sequence[Any], packs: dict[Any, Any] | None = None
) -> tuple[tuple[Any, ...], tuple[Any, ...]]: ...
def backward_pair(
    first: Sequence[Any], second: Sequence[Any]
) -> tuple[tuple[Any, ...], tuple[Any, ...]]: ...
