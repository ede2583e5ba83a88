"""Errors of resources that programs on a VM use."""


class ResourceError(Exception):
    """Base class: a call to a service raises nothing else."""


class SupersededError(ResourceError):
    """A newer epoch exists: this VM must release the identity."""


class NewerEpochError(SupersededError):
    """A resource knows another holder, of the same epoch or a newer one."""

    def __init__(self, message: str, epoch: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        """The newest epoch that the resource knows."""


class UnavailableError(ResourceError):
    """No answer, or not yet: to be retried."""


class DamagedError(ResourceError):
    """Stored data is damaged or missing. Only an operator may repair it; nothing overwrites it."""
