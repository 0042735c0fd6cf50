"""``python -m diptych``: the command line where its program is not on the path."""

from diptych.cli import main

if __name__ == "__main__":
    main()
