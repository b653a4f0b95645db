"""Data for recurrent models: text as a stream of characters."""

from minirnn.data.text import TextStream, Vocabulary, read_text, stdlib_text

__all__ = ["TextStream", "Vocabulary", "read_text", "stdlib_text"]
