"""The documentation as a site: every link leads somewhere, and README is its first page."""

import html.parser
import pathlib
import shutil
import subprocess
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SITE = ROOT / "build" / "site"


class Page(html.parser.HTMLParser):
    """What a page links to or loads, and the places in it that can be linked to."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = set(), {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links |= {attrs[name] for name in ("href", "src") if attrs.get(name)}
        self.places.add(attrs.get("id"))


@pytest.mark.slow  # installs mkdocs, and takes half a minute
def test_the_site_is_built_and_its_links_lead_somewhere():
    subprocess.run([ROOT / "launch" / "docs.sh"], check=True)
    pages = {path.resolve(): Page(path) for path in SITE.rglob("*.html") if path.name != "404.html"}
    nowhere, loaded = [], set()
    for path, page in pages.items():
        for link in page.links:
            address = urllib.parse.urlsplit(link)
            if address.scheme:
                loaded |= {link} if link.endswith((".js", ".css", "shim")) else set()
                continue
            target = (path.parent / urllib.parse.unquote(address.path)).resolve() if address.path else path
            if not target.is_file() or (target in pages and address.fragment not in pages[target].places):
                nowhere.append((path.name, link))
    assert len(pages) > 25 and nowhere == []
    assert loaded == set()  # nothing comes from elsewhere
    assert "1-bit convolutional networks" in (SITE / "index.html").read_text()
    assert 'id="onebnet_jax.api.train"' in (SITE / "api.html").read_text()


@pytest.mark.slow
def test_a_link_that_leads_nowhere_is_an_error(tmp_path):
    (copy := tmp_path / "copy").mkdir()
    parts = ("docs", "launch", "onebnet_jax", "results", *(path.name for path in ROOT.glob("*.*") if path.is_file()))
    for name in (*parts, "LICENSE"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, copy / name)
    (copy / ".venv-docs").symlink_to(ROOT / ".venv-docs")
    (copy / "docs" / "faq.md").write_text("[a page](nowhere.md)")
    done = subprocess.run([copy / "launch" / "docs.sh"], capture_output=True, text=True)
    assert done.returncode and "nowhere.md" in done.stderr
