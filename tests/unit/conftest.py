"""Settings of all unit tests: they need no server, no Redis and no network."""

import sys
from pathlib import Path

from hypothesis import settings

# What is tested need not be installed, and `pytest` alone does not look where it is called.
sys.path.insert(0, str(Path(__file__).parents[2]))

# A loaded machine is slow, not wrong; failures print their example, which goes into the test.
settings.register_profile("unit", deadline=None, database=None, print_blob=True)
settings.load_profile("unit")
