"""`python -m automatch`, the same as the command `automatch`."""

import sys

from automatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
