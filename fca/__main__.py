"""Run the command line as ``python -m fca``."""

from fca.cli import main

if __name__ == "__main__":
    main()
