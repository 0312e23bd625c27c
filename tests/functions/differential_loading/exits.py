"""It exits."""

import sys

sys.exit(3)
