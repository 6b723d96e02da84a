"""``python -m outsample.cli``."""

import sys

from outsample.cli import main

sys.exit(main())
