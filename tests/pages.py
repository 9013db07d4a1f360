"""A page of HTML in tests: its elements with their attributes and text, each closed where it was opened."""

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Self

VOID = {"meta", "rect", "path"}  # as the pages write them; the two of SVG close themselves


@dataclass
class Element:
    """An element: its name, its attributes, and all the text in it."""

    name: str
    attributes: dict[str, str]
    text: str = ""


class Page(HTMLParser):
    """Read a page. Raises AssertionError where an element is not closed where it was opened."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []

    @classmethod
    def of(cls, content: str) -> Self:
        """Read a page from its first character to its last."""
        page = cls()
        page.feed(content)
        page.close()
        assert not page._open, page._open
        return page

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        element = Element(tag, {name: value or "" for name, value in attrs})
        assert len(element.attributes) == len(attrs), attrs
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that was opened last."""
        if tag not in VOID:
            assert self._open
            assert self._open.pop().name == tag

    def handle_data(self, data: str) -> None:
        """Give text to all elements that it is in."""
        for element in self._open:
            element.text += data

    def named(self, name: str, cls: str | None = None) -> list[Element]:
        """The elements of a name, and of a class."""
        return [each for each in self.elements if each.name == name and cls in (None, each.attributes.get("class"))]

    def texts(self, name: str, cls: str | None = None) -> list[str]:
        """The texts of the elements of a name, and of a class."""
        return [each.text for each in self.named(name, cls)]
