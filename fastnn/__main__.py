"""``python -m fastnn``: see `fastnn.cli`."""

from fastnn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
