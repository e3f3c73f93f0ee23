"""`python -m zerocopy` is the command line.

With -m Python looks for modules in the working directory first, where there may be any queue.py.
It goes on only if the package itself was found there, as in a checkout.
"""

import os
import sys

if not sys.flags.safe_path and sys.path[0] != os.path.dirname(os.path.dirname(__file__)):
    del sys.path[0]

from zerocopy.cli import main

main()
