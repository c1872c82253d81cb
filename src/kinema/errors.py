"""What can go wrong, as one tree.

KinemaError              anything this package raises on purpose; `str()` is one line for a person
├── InputError           the caller's value breaks a rule; the text names value, rule and way out
├── WeightsError         a checkpoint is missing, truncated, unsafe, or does not fit the model
├── MissingExtraError    an optional dependency is not installed; the text names the extra
├── OutputError          a result could not be written (disk full, no permission)
└── OutOfMemoryError     the device or the process ran out of memory, which has been given back; the text says what fits

`assert` is kept for our own mistakes.
"""


class KinemaError(Exception):
    """Base of every error that the command line prints as one clear line."""


class InputError(KinemaError, ValueError):
    """A value given by the caller breaks a rule."""


class WeightsError(KinemaError, RuntimeError):
    """A checkpoint cannot be used as it is."""


class MissingExtraError(KinemaError, ImportError):
    """An optional dependency is absent."""

    def __init__(self, package: str, extra: str, alone: bool = False):
        """alone: the package is installed without what it depends on, which an extra cannot say."""
        more = f" and pip install --no-deps {package}" if alone else ""
        super().__init__(f"this needs {package!r}, which is not installed: pip install 'kinema[{extra}]'{more}")


class OutputError(KinemaError, OSError):
    """A result could not be written where it was asked for."""


class OutOfMemoryError(KinemaError, MemoryError):
    """There was too little memory for a piece of work; what it held is free again."""
