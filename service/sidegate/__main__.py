"""`python -m sidegate` is `sidegate`."""

from __future__ import annotations

import sys

from sidegate.cli import main

sys.exit(main())
