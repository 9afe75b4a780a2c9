"""The command line of the exhibits: `python -m experiments` lists them; `slt_lab.cli` does the rest."""

import sys

from experiments.catalogue import CATALOGUE
from slt_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], CATALOGUE))
