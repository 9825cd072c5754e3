"""What a scenario may end with, if it doesn't pass."""


class UnmetError(Exception):
    """The deployment did something else than it should; the text is the sentence for the report."""


class SkipError(Exception):
    """This scenario can't be judged here; the text says why."""


class UnusableError(Exception):
    """The deployment can't be tested at all; the text is one sentence for the user."""
