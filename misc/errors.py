"""The one error a user is meant to see."""


class InputError(Exception):
    """Something the user gave cannot be used; the text says what, what was expected, and the remedy.

    The driver prints it without a traceback and exits with code 2. Any other exception is a defect
    of this program.
    """
