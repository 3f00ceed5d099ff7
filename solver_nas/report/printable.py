"""Names come from files of strangers: what may be shown of them."""

from __future__ import annotations

_STRANGE = "\N{REPLACEMENT CHARACTER}"


def printable(text: str, keep: str = "") -> str:
    r"""The text without characters that XML forbids, that move a cursor, or that rearrange what stands around them.

    Args:
        text: anything.
        keep: characters that stay all the same.

    >>> printable("a\x00b\u202ec\n") == "a\ufffdb\ufffdc\ufffd"
    True
    """
    return "".join(one if one.isprintable() or one in keep else _STRANGE for one in text)
