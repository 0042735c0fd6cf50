"""The launcher: Ptychodus with diptych's reconstructors and file readers, with Ptychodus' own arguments."""

from __future__ import annotations

import sys

from diptych.errors import UnavailableError


def main() -> int:
    """Register diptych, then start Ptychodus: its window, or its batch mode (``--batch``)."""
    try:
        import ptychodus
    except ModuleNotFoundError:
        raise UnavailableError(
            "Ptychodus is not installed. Install it in an environment of its own: pip install 'ptychodus[gui]' "
            "(never with its extra ptychi beside diptych's networks)."
        ) from None
    from diptych.ptycho.plugins.ptychodus.launch import register_all

    register_all(ptychodus)
    from ptychodus.__main__ import main as start

    return int(start() or 0)


if __name__ == "__main__":
    try:
        code = main()
    except UnavailableError as error:
        sys.exit(str(error))
    sys.exit(code)
