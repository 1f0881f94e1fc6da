"""The report's two forms: what they show, that nothing in them is missing, and that a section survives being kept."""

import base64
import html.parser
import json
import re

from onebnet_jax.paper import page, sections
from onebnet_jax.paper.sections import Picture, Section

SECTIONS = [
    Section(
        "Table 1",
        "Things < others",
        "All of it.",
        [["name", "paper (%)", "here (%)"], ["a & b", "1.5", "needs ImageNet"], ["c", "-", "2.0"]],
        ("", "paper", "measured"),
        ("A note with `code <x>`.",),
        (("fill it in", "onebnet train && echo '<done>'"),),
    ),
    Section("Figure 2", "A picture", "Drawn.", pictures=(Picture("one", b"PNG 1"), Picture("two", b"PNG 2"))),
]


class Elements(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.text = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)

    def values(self, tag, name):
        return [attributes[name] for each, attributes in self.found if each == tag and name in attributes]


def test_marks_of_cells():
    assert SECTIONS[0].counts() == {"paper": 1, "needs": 1, "measured": 1}
    assert page.glance(SECTIONS)[1][2:7] == ["1", "", "1", "", "1"]


def test_the_page_needs_no_other_file():
    elements = Elements(page.page(SECTIONS, "onebnet report"))
    sources = elements.values("img", "src")
    assert [base64.b64decode(source.removeprefix("data:image/png;base64,")) for source in sources] == [
        b"PNG 1",
        b"PNG 2",
    ]
    assert not elements.values("script", "src") and elements.values("link", "href") == ["data:,"]
    anchors = [link.removeprefix("#") for link in elements.values("a", "href")]
    assert anchors == elements.values("h2", "id") == ["table-1", "figure-2"]
    text = "".join(elements.text)
    for words in ("Things < others", "a & b", "needs ImageNet", "code <x>", "echo '<done>'", "onebnet report"):
        assert words in text


def test_markdown_names_the_files_of_its_pictures():
    text = page.markdown(SECTIONS, "onebnet report")
    named = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert named == [page.file_name(SECTIONS[1], number) for number in (1, 2)] == ["figure-2-1.png", "figure-2-2.png"]
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) == {"table-1", "figure-2"}
    assert "| needs ImageNet |" in text


def test_a_section_reads_back_as_the_same():
    assert [sections.from_json(json.loads(json.dumps(sections.to_json(each)))) for each in SECTIONS] == SECTIONS
