"""`python -m fluxsrc` is `fluxsrc`."""

import sys

from fluxsrc.cli import main

if __name__ == "__main__":
    sys.exit(main())
