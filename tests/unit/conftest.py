"""Settings of all unit tests: they need no server, no Redis and no network."""

from hypothesis import settings

# A loaded machine is slow, not wrong; failures print their example, which goes into the test.
settings.register_profile("unit", deadline=None, database=None, print_blob=True)
settings.load_profile("unit")
