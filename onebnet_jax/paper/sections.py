"""A section of the report on the paper: one of its tables or figures beside what is there of it here. Plain data."""

import base64
import collections
import dataclasses

from onebnet_jax.tables import Table

# Where a figure in a table comes from, by the mark of its column; a cell that begins with NEEDS is not there yet.
MARKS = {
    "paper": "what the paper prints",
    "counted": "counted from the structure of the network",
    "measured": "measured here, in a run or on a file",
    "estimated": "computed by a formula that was fitted to the paper's own measurements, without a measurement of ours",
    "needs": "not there yet: it takes data or a machine that were not at hand",
}
NEEDS = "needs "


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with its caption, which says what to see in it."""

    caption: str
    png: bytes


@dataclasses.dataclass(frozen=True)
class Section:
    """One table or figure of the paper."""

    name: str  # "Table 1"
    title: str  # what the paper shows there
    verdict: str  # what there is of it here: trained, timed, counted, or fitted to the paper
    rows: Table = dataclasses.field(default_factory=list)  # the first is the header
    marks: tuple[str, ...] = ()  # of the columns, "" for words
    notes: tuple[str, ...] = ()  # what a reader must know, a paragraph each
    commands: tuple[tuple[str, str], ...] = ()  # ("train a row", the command that does)
    pictures: tuple[Picture, ...] = ()

    def cell_mark(self, row: int, column: int) -> str:
        """The mark of a cell of `rows`, header included; "" for words and empty cells."""
        text = self.rows[row][column]
        if text.startswith(NEEDS):
            return "needs"
        return self.marks[column] if row and text not in ("", "-") else ""

    def counts(self) -> dict[str, int]:
        """How many cells bear each mark."""
        places = ((row, column) for row in range(len(self.rows)) for column in range(len(self.marks)))
        return dict(collections.Counter(mark for place in places if (mark := self.cell_mark(*place))))


def trained(rows: Table, column: int) -> str:
    """How many rows of a table, here without its header, were trained here by the cells of a column, in words."""
    done, words = _done(rows, column, "rows")
    can = sum(row[column] != "-" for row in rows)
    words += " trained here"
    return f"{words}; {can - done}{' more' * bool(done)} can be, by their configs." if can > done else f"{words}."


def timed(rows: Table, column: int) -> str:
    """How many latencies of a table, here without its header, were measured here, in words."""
    return _done(rows, column, "latencies")[1] + " measured here."


def _done(rows: Table, column: int, what: str) -> tuple[int, str]:
    done = sum(not row[column].startswith((NEEDS, "-")) for row in rows)
    return done, f"{done or 'None'} of the {len(rows)} {what} {'were' if done > 1 else 'was'}"


def to_json(section: Section) -> dict:
    """A section as JSON values."""
    fields = dataclasses.asdict(section)
    for picture in fields["pictures"]:
        picture["png"] = base64.b64encode(picture["png"]).decode()
    return fields


def from_json(fields: dict) -> Section:
    """The section that `to_json` made these of."""
    pictures = tuple(Picture(picture["caption"], base64.b64decode(picture["png"])) for picture in fields["pictures"])
    tuples = {name: tuple(fields[name]) for name in ("marks", "notes")}
    return Section(**fields | tuples | {"commands": tuple(map(tuple, fields["commands"])), "pictures": pictures})
