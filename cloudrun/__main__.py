"""`python -m cloudrun`: the same as the command `cloudrun`."""

from cloudrun.cli.app import main

if __name__ == "__main__":
    main()
