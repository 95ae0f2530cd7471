"""What can go wrong while collecting.

CollectorError          source, permanent: would trying again with the same configuration help?
+-- Unreachable         no connection, timeout, server error: try again
+-- Unauthorized        401, 403: permanent until the credentials change
+-- BadPayload          the answer is not what this source speaks
+-- ClockSkew           the source's clock is so far off that its readings would be misdated
+-- Unsupported         the source is a version or a kind that cannot be read: permanent
"""


class CollectorError(Exception):
    """Base of all collection errors; the message says what, why and what to do, and never holds a secret."""

    permanent = False

    def __init__(self, message: str, *, source: str, permanent: bool | None = None) -> None:
        super().__init__(message)
        self.source = source
        if permanent is not None:
            self.permanent = permanent


class Unreachable(CollectorError):
    """No connection, a timeout or a server error."""


class Unauthorized(CollectorError):
    """The source refused the credentials (401) or the right (403)."""

    permanent = True


class BadPayload(CollectorError):
    """The source answered with something it should not say."""


class ClockSkew(CollectorError):
    """The source's clock is too far from ours to date its readings."""


class Unsupported(CollectorError):
    """The source cannot be read at all in this form."""

    permanent = True
