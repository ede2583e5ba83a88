"""Messages that quote other members' text."""


def one_line(text: str) -> str:
    """The text as one line: unprintable characters are escaped."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
