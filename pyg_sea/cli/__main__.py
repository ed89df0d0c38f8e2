import sys

from pyg_sea.cli import main

if __name__ == '__main__':
    sys.exit(main())
