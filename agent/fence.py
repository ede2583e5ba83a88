"""Why a resource does not let a holder in."""


class SupersededError(Exception):
    """A newer epoch is there: the identity is to be given up."""


class UnavailableError(Exception):
    """No answer, or not yet: to be tried again."""


class DamagedError(Exception):
    """What is kept is not whole, and only a person may mend it; nothing is made anew over it."""
