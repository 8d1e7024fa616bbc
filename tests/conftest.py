"""Hypothesis repeats the same examples on every run: a red test stays red until it is mended."""

from hypothesis import settings

settings.register_profile("ci", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("ci")
