"""Tables: a list of rows of strings, of which the first is the header."""

Table = list[list[str]]


def render(rows: Table, markdown: bool = False) -> str:
    """Aligned columns as text or Markdown: words to the left, numbers to the right."""
    first, *others = zip(*rows)
    sides = ["<", *(">" if all(cell[:1] in "0123456789-+" for cell in column[1:]) else "<" for column in others)]
    widths = [max(map(len, column)) for column in (first, *others)]
    lines = [[f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths)] for row in rows]
    rule = ["-" * (width - 1) + (":" if markdown and side == ">" else "-") for side, width in zip(sides, widths)]
    lines.insert(1, rule)
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in lines)
