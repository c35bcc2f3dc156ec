# SPDX-License-Identifier: MIT OR Apache-2.0
"""The command `vx`: `python -m vx detect recordings/`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

# Runs this module wherever the package is, and nothing that is in the working directory.
_AGAIN = "import sys; sys.path.append(sys.argv.pop(1)); from vx.__main__ import main; sys.exit(main())"


def itself() -> tuple[str | None, list[str]]:
    """Returns the program and the arguments that run this command again, with its own arguments behind them."""
    return sys.executable, ["-P", "-c", _AGAIN, str(Path(__file__).resolve().parent.parent)]


def main() -> int:
    """Runs the command with the arguments of the process; returns its exit status."""
    # The command handles signals itself; those that are ignored stay so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from . import _vx

    return _vx.main(["vx", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
