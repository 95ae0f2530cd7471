"""How text from outside is kept and quoted: printable, on one line, and never longer than stated."""


def plain_text(text: str, limit: int) -> str:
    """The text without control, format and surrogate characters, blanks trimmed, cut to `limit` characters.

    Format characters go too: a right-to-left override in a pod label would turn around what people read beside it.
    """
    head = text[: limit * 4]
    if not head.isprintable():
        head = "".join(character if character.isprintable() else " " for character in head)
    joined = " ".join(head.split())
    return joined if len(joined) <= limit else f"{joined[: limit - 1]}…"
