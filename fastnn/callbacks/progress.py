"""How training goes, on the terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

from fastnn.callbacks.base import Callback, Logs


class ProgressBar(Callback):
    """Tells how training goes: a bar an epoch (tqdm, if it is installed), or one line.

    Parameters
    ----------
    verbose : {1, 2}
        2: lines, no bar.
    """

    _REFRESH = 0.1  # seconds

    def __init__(self, verbose: int = 1) -> None:
        self.verbose = verbose
        self._bar: Any = None
        self._start = self._shown = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Open the bar."""
        self._start = time.perf_counter()
        tqdm = _tqdm() if self.verbose == 1 else None
        if tqdm is not None:
            self._bar = tqdm(
                total=self.params["steps"],
                desc=self._title(epoch),
                unit="batch",
                file=sys.stdout,
                dynamic_ncols=True,
            )

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Move the bar."""
        if self._bar is None:
            return
        now = time.perf_counter()
        if now - self._shown > self._REFRESH:
            self._shown = now
            self._bar.set_postfix_str(_words(logs or {}), refresh=False)
        self._bar.update(1)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Close the bar, or print the line."""
        words = _words(logs or {})
        if self._bar is not None:
            self._bar.set_postfix_str(words)
            self.close()
        else:
            seconds = time.perf_counter() - self._start
            print(f"{self._title(epoch)} - {seconds:.1f} s - {words}", flush=True)

    def close(self) -> None:
        """Leave the terminal in order, also after an exception."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _title(self, epoch: int) -> str:
        return f"Epoch {epoch + 1}/{self.params['epochs']}"


def _tqdm() -> Any:
    try:
        from tqdm import tqdm
    except ImportError:  # the [progress] extra; lines do without it
        return None
    return tqdm


def _words(logs: Logs) -> str:
    return " - ".join(f"{name}: {value:.4f}" for name, value in logs.items())
