"""How the simulated API server says no: a Status with a code, in the words of a kube-apiserver."""


class Refused(Exception):
    """A request that ends with a Status."""

    def __init__(self, code: int, reason: str, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.headers = headers
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


def unauthorized() -> Refused:
    """401."""
    return Refused(401, "Unauthorized", "Unauthorized")


def not_found() -> Refused:
    """404 for a path."""
    return Refused(404, "NotFound", "the server could not find the requested resource")


def expired_page() -> Refused:
    """410 for a page of a list that is gone."""
    message = (
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter."
    )
    return Refused(410, "Expired", message)


def expired_watch(since: int, version: int) -> Refused:
    """410 for a watch from a version that is gone."""
    return Refused(410, "Expired", f"too old resource version: {since} ({version})")
