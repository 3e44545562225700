"""Files that a cell cannot show as text, as base64."""

import base64


def put(path, content):
    """Write a file."""
    with open(path, "wb") as file:
        file.write(base64.b64decode(content))
