"""The topics of `protogen help`, and their texts."""

from importlib.resources import files

from protogen.errors import BadRequest

TOPICS = (
    "choose",
    "heads",
    "fit",
    "search",
    "catalog",
    "capacity",
    "processes",
    "demo",
    "store",
    "lock",
    "remotes",
    "ci",
    "files",
    "numerics",
    "papers",
)


def text_of(topic: str) -> str:
    """Return a topic's text, in Markdown. Raises BadRequest where there is no such topic."""
    if topic not in TOPICS:
        raise BadRequest(
            f"topic is {topic!r}; allowed are {', '.join(TOPICS)}; of a command say `protogen COMMAND --help`"
        )
    return files(__package__).joinpath(f"{topic}.md").read_text("utf-8")


def line_of(topic: str) -> str:
    """Return what a topic is about, in one line."""
    return text_of(topic).partition("\n")[0].partition(": ")[2]
