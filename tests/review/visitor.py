"""A browser without a screen: what it sends is what a real one would."""

import re

from fastapi.testclient import TestClient
from httpx2 import Response

from mondegreen.review.app import create_app
from mondegreen.review.session import ReviewState

ADDRESS = "http://127.0.0.1:8377"


class Visitor(TestClient):
    """Keeps cookies, sends an Origin and the token of the page it saw last."""

    def __init__(self, state: ReviewState, address: str = ADDRESS) -> None:
        super().__init__(create_app(state), base_url=address, headers={"origin": address})
        self.page = ""

    def look(self, path: str = "/") -> str:
        """The page, which must be there."""
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        self.page = answer.text
        return self.page

    def value(self, pattern: str) -> str:
        """What the page has in its first group."""
        found = re.search(pattern, self.page)
        assert found, self.page
        return found[1]

    @property
    def case(self) -> str:
        return self.value(r'data-case="(\w+)"')

    def submit(self, path: str, **fields: object) -> Response:
        """A form, with the page's token."""
        data = {"csrf": self.value(r'data-csrf="(\w+)"'), **{name: str(value) for name, value in fields.items()}}
        answer = self.post(path, data=data)
        self.page = answer.text if "<html" in answer.text else self.page
        return answer

    def decide(self, action: str = "text", **fields: object) -> Response:
        """A decision about the case on the page."""
        return self.submit(f"/case/{self.case}", action=action, basis=self.value(r'data-basis="(\d+)"'), **fields)
