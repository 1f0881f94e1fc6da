"""Tables: a list of rows of strings, of which the first is the header."""

Table = list[list[str]]


def render(rows: Table, markdown: bool = False) -> str:
    """Aligned columns as text or Markdown: words to the left, numbers to the right."""
    columns = list(zip(*rows))
    widths = [max(map(len, column)) for column in columns]
    right = [
        index > 0 and all(cell[:1] in "0123456789-+" for cell in column[1:]) for index, column in enumerate(columns)
    ]
    lines = [
        [cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in zip(row, widths, right)]
        for row in rows
    ]
    if markdown:
        rule = ["-" * (width - 1) + (":" if to_right else "-") for width, to_right in zip(widths, right)]
        return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
    rule = ["-" * width for width in widths]
    return "\n".join("  ".join(line).rstrip() for line in [lines[0], rule, *lines[1:]])
