"""``python -m eventmill``: the command line."""

from eventmill.cli.main import main

if __name__ == "__main__":
    main()
