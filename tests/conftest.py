"""One profile for every property: no deadline (compiled kernels warm up), the same examples on every run."""

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("ci")
