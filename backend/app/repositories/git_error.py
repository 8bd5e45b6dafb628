"""The one exception that a sync raises for a person to read."""


class GitError(Exception):
    """A repository could not be read.

    Args:
        reason: a plain sentence that a person can act on; holds no token and no path of this machine. What git itself
            said, scrubbed, is in the exception's notes, for the log.
        retryable: whether the same sync may succeed soon without anybody doing anything.
    """

    def __init__(self, reason: str, retryable: bool = False) -> None:
        # Both go into `args`, so that a task queue can pickle the exception.
        super().__init__(reason, retryable)
        self.reason = reason
        self.retryable = retryable

    def __str__(self) -> str:
        return self.reason
