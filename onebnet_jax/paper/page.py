"""The report on the paper as one HTML page that needs nothing else, and as Markdown with pictures beside it. Pure."""

import base64
import html
import re
from collections.abc import Sequence

from onebnet_jax.paper.sections import MARKS, Picture, Section
from onebnet_jax.tables import Table, render

TITLE = "OneBNet: the paper's tables and figures, beside what we have"
INTRODUCTION = (
    "Every table and figure of the OneBNet paper beside what this project has for it. Each number is one of five "
    "kinds. Binarized networks keep weights and activations as single bits; OneBNet splits some of their 3x3 "
    "convolutions into a 3x1 and a 1x3 one."
)
# Colours that people with any kind of colour blindness can tell apart (Okabe and Ito); the words are there as well.
COLOURS = {"paper": "#8a8f98", "counted": "#0072b2", "measured": "#009e73", "estimated": "#e69f00", "needs": "#cc79a7"}
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c2026; max-width: 74rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin: 3rem 0 .3rem; border-top: 1px solid #d5d9df; padding-top: 1rem; }
.subject { color: #555c66; margin-top: 0; } .verdict { font-weight: 600; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .86rem; margin: .8rem 0; }
th, td { padding: .28rem .5rem; text-align: left; border-bottom: 1px solid #e4e7eb; vertical-align: top; }
th { vertical-align: bottom; border-bottom: 2px solid #9aa1ab; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
td:not(:last-child) { white-space: nowrap; } .glance td { white-space: normal; }
td code span { white-space: nowrap; }
ul { list-style: none; padding-left: 0; }
.mark { border-left: 4px solid var(--c); } .needs { font-style: italic; color: #6b3552; }
.key { display: inline-block; width: .8rem; height: .8rem; margin-right: .4rem; vertical-align: -.05rem; }
.bar { display: flex; width: 15rem; height: .9rem; background: #eef0f3; } .bar span { min-width: 2px; }
code, pre { font: .86em ui-monospace, monospace; background: #f3f5f7; } code { padding: .05rem .25rem; }
pre { padding: .6rem .8rem; overflow-x: auto; margin: .2rem 0 .8rem; }
@media (max-width: 40rem) {  /* a phone: of the first table all below one another, nothing to the right */
  .glance th { display: none; } .glance td { display: block; border: 0; padding: .1rem 0; }
  .glance td:first-child { font-weight: 600; } .glance tr { display: block; padding: .6rem 0; }
  table:not(.glance) td:last-child { min-width: 16rem; }
  .glance tr + tr { border-top: 1px solid #e4e7eb; }
}
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; } figcaption { color: #434a54; font-size: .92rem; }
"""


def file_name(section: Section, number: int) -> str:
    """The file of a section's picture for the Markdown: "figure-3-1.png"."""
    return f"{_anchor(section.name)}-{number}.png"


def glance(sections: Sequence[Section]) -> Table:
    """One row for each section: how many numbers of each kind it has, and what we have."""
    rows = [["", "what it shows", *MARKS, "what we have"]]
    for section in sections:
        counts = section.counts()
        rows.append([section.name, section.title, *(str(counts.get(mark, "")) for mark in MARKS), section.verdict])
    return rows


def markdown(sections: Sequence[Section], command: str) -> str:
    """The report as Markdown; `command` is the one that makes it."""
    parts = [f"# {TITLE}", f"Made by `{command}`; do not edit.", INTRODUCTION]
    parts.append("\n".join(f"- **{mark}**: {words}" for mark, words in MARKS.items()))
    rows = [[f"[{row[0]}](#{_anchor(row[0])})", *row[1:]] for row in glance(sections)[1:]]
    parts += ["## At a glance", render([glance(sections)[0], *rows], markdown=True)]
    for section in sections:
        parts += [f"## {section.name}", section.title + ".", f"**{section.verdict}**"]
        if section.rows:
            parts.append(render(section.rows, markdown=True))
        for number, picture in enumerate(section.pictures, start=1):
            parts += [f"![{section.name}]({file_name(section, number)})", picture.caption]
        parts += section.notes
        parts += [f"To {words}:\n\n```\n{command}\n```" for words, command in section.commands]
    return "\n\n".join(parts) + "\n"


def page(sections: Sequence[Section], command: str) -> str:
    """The report as one HTML page, its pictures in it; `command` is the one that makes it."""
    key = "".join(f"<li>{_key(mark)}<b>{mark}</b>: {html.escape(words)}</li>" for mark, words in MARKS.items())
    body = [f"<h1>{html.escape(TITLE)}</h1>", _paragraph(INTRODUCTION), f"<ul>{key}</ul>"]
    body += [_paragraph(f"Made by `{command}`."), "<h2>At a glance</h2>", _glance(sections)]
    body += map(_section, sections)
    head = f"<meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{TITLE}</title>"
    # Without an icon of its own a browser would ask a server for one.
    head += f"<link rel='icon' href='data:,'><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{''.join(body)}</body></html>\n"


def _glance(sections: Sequence[Section]) -> str:
    rows = []
    for section in sections:
        counts = section.counts()
        spans = "".join(
            f"<span style='flex:{counts[mark]};background:{colour}' title='{counts[mark]} {mark}'></span>"
            for mark, colour in COLOURS.items()
            if mark in counts
        )
        words = ", ".join(f"{counts[mark]} {mark}" for mark in COLOURS if mark in counts)
        link = f"<a href='#{_anchor(section.name)}'>{section.name.replace(' ', '&nbsp;')}</a>"
        bar = f"<div class='bar'>{spans}</div><small>{words}</small>" if words else ""
        cells = link, _inline(section.title), bar, _inline(section.verdict)
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    header = "".join(f"<th>{cell}</th>" for cell in ("", "what it shows", "its numbers", "what we have"))
    return f"<div class='scroll'><table class='glance'><tr>{header}</tr>{''.join(rows)}</table></div>"


def _section(section: Section) -> str:
    parts = [
        f"<h2 id='{_anchor(section.name)}'>{section.name}</h2>",
        f"<p class='subject'>{_inline(section.title)}</p>",
    ]
    parts.append(f"<p class='verdict'>{_inline(section.verdict)}</p>")
    if section.rows:
        parts.append(_table(section))
    parts += (_figure(section.name, picture) for picture in section.pictures)
    parts += map(_paragraph, section.notes)
    parts += (f"<p>To {words}:</p><pre>{html.escape(command)}</pre>" for words, command in section.commands)
    return "".join(parts)


def _table(section: Section) -> str:
    lines = []
    for row, cells in enumerate(section.rows):
        columns = []
        for column, text in enumerate(cells):
            mark = section.cell_mark(row, column) or section.marks[column]
            number = bool(mark) and re.match(r"[-+]?\d+[\d.,]*$", text)
            kind = " ".join(["mark"] * bool(mark) + ["needs"] * (mark == "needs") + ["number"] * bool(number))
            style = f" style='--c:{COLOURS[mark]}'" if mark else ""
            tag = "td" if row else "th"
            words = _inline(text if row else text.replace("-", "\N{NON-BREAKING HYPHEN}"))
            columns.append(f"<{tag} class='{kind}'{style}>{words}</{tag}>")
        lines.append(f"<tr>{''.join(columns)}</tr>")
    return f"<div class='scroll'><table>{''.join(lines)}</table></div>"


def _figure(name: str, picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    image = f"<img alt='{name}' src='data:image/png;base64,{data}'>"
    return f"<figure>{image}<figcaption>{_inline(picture.caption)}</figcaption></figure>"


def _key(mark: str) -> str:
    return f"<span class='key' style='background:{COLOURS[mark]}'></span>"


def _paragraph(text: str) -> str:
    return f"<p>{_inline(text)}</p>"


def _inline(text: str) -> str:
    """Text of a sentence as HTML; what stands between backticks is code, each of its words whole in a table."""

    def code(match: re.Match) -> str:
        return f"<code>{' '.join(f'<span>{word}</span>' for word in match[1].split())}</code>"

    return re.sub(r"`([^`]+)`", code, html.escape(text, quote=False))


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")
