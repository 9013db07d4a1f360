"""The command that explains topics."""

import sys
from typing import Annotated

import typer

from protogen.topics.reading import TOPICS, line_of, text_of

app = typer.Typer()


@app.command("help")
def help_(
    topic: Annotated[str | None, typer.Argument(help="One of those that are listed without it.")] = None,
) -> None:
    """Explain a topic: choose, heads, store, lock, ci and others.

    A terminal shows the text set; elsewhere it is Markdown.
    """
    if topic is None:
        for each in TOPICS:
            print(f"{each:<10} {line_of(each)}")
    elif sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(text_of(topic)))
    else:
        print(text_of(topic), end="")
