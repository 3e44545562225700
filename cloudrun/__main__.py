"""`python -m cloudrun`, and the command `cloudrun`.

Nothing is imported before a Ctrl-C is caught: the imports take most of the
time of a short command.
"""

import sys


def main() -> None:
    """The console script."""
    try:
        from cloudrun.cli import app

        app.main()
    except KeyboardInterrupt:
        # It came before there was anything to end, or to say.
        sys.exit(130)


if __name__ == "__main__":
    main()
