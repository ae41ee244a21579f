"""Why a request is not served."""


class RefusedError(Exception):
    """Becomes an answer in OpenAI's shape of an error.

    Args:
        status: of HTTP.
        message: what is wrong and what to do.
        param: the field that is to blame.
        headers: of the answer.
    """

    def __init__(
        self, status: int, message: str, param: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.headers = status, message, param, headers
