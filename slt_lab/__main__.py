"""`python -m slt_lab FILE --config NAME`: run an experiment that lives in a file of your own."""

import sys

from slt_lab.catalogue import Catalogue
from slt_lab.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Catalogue("python -m slt_lab", {})))
