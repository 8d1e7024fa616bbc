"""What can go wrong and be told in one sentence: the command line prints it and exits with code 2, with no traceback."""


class MinivaeError(Exception):
    """Base of every error that a user can mend; the message says what is wrong, with the numbers, and what to do."""


class ShapeError(MinivaeError, ValueError):
    """Arrays whose shapes, dtypes or options do not fit together."""


class UsageError(MinivaeError, ValueError):
    """An argument out of range, an unknown name, a missing optional package."""


class DataError(MinivaeError):
    """A data set that is missing, altered or unreadable."""


class CheckpointError(MinivaeError):
    """A model file that is missing, damaged, or cannot be written."""


class NonFiniteError(MinivaeError, ArithmeticError):
    """A NaN or an infinity in training; the message names the op that made it."""
