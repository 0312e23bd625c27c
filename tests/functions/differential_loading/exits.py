"""A module that calls exit while it is loaded."""

import sys

sys.exit(3)
