"""`python -m tour`: makes Ctrl-C quiet before anything else is loaded."""

import os
import signal
import sys
from types import FrameType


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(128 + number)


for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, _leave)

from tour.main import main  # noqa: E402 - takes a second, in which Ctrl-C may come

sys.exit(main())
