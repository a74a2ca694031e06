"""What holds for all tests."""

from __future__ import annotations

import signal

for _number in (signal.SIGINT, signal.SIGHUP):  # `nohup` and a shell's `&` leave them ignored, in children too
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)
