"""Tables: a list of rows of strings, of which the first is the header."""

import sys

Table = list[list[str]]


def render(rows: Table, markdown: bool = False) -> str:
    """Aligned columns as text or Markdown: words to the left, numbers to the right."""
    first, *others = zip(*rows)
    sides = ["<", *(">" if _numbers(column[1:]) else "<" for column in others)]
    widths = [max(map(len, column)) for column in (first, *others)]
    lines = [[f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths)] for row in rows]
    rule = ["-" * (width - 1) + (":" if markdown and side == ">" else "-") for side, width in zip(sides, widths)]
    lines.insert(1, rule)
    if markdown:
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def show(*parts: str | Table, markdown: bool = False) -> None:
    """Prints sentences and tables with an empty line between: in colours on a terminal wide enough, else as text."""
    for number, part in enumerate(parts):
        if number:
            print()
        if isinstance(part, str):
            print(part)
        elif markdown or not sys.stdout.isatty() or not _show_coloured(part):
            print(render(part, markdown))


def _show_coloured(rows: Table) -> bool:
    """Prints a table by rich, unless the terminal is too narrow for it; whether it did."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Coloured
    from rich.text import Text

    console, coloured = Console(), Coloured(box=box.SIMPLE_HEAD, header_style="bold cyan", pad_edge=False)
    for number, (name, *cells) in enumerate(zip(*rows)):
        numbers = number > 0 and _numbers(cells)
        coloured.add_column(Text(name), justify="right" if numbers else "left", no_wrap=True)
    for row in rows[1:]:
        coloured.add_row(*map(Text, row))
    if console.measure(coloured, options=console.options.update(max_width=10**4)).maximum > console.width:
        return False
    console.print(coloured)
    return True


def _numbers(cells: tuple[str, ...] | list[str]) -> bool:
    return all(cell[:1] in "0123456789-+" for cell in cells)
