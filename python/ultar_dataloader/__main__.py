"""`python -m ultar_dataloader` is the command `ultar-dataloader`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
