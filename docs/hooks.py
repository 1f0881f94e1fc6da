"""What mkdocs does not do by itself: README as the first page, and links to files that the site does not hold.

A page links to files of the repository, so that both work where the repository is looked at. The site has no such
files: there, such a link becomes the file's name.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s#:]+)(#[^)]*)?\)")


def on_files(files, config):
    files.append(File.generated(config, "index.md", content=_from_docs((ROOT / "README.md").read_text())))
    return files


def on_page_markdown(markdown, page, config, files):
    def link(match):
        image, text, path, _ = match.groups()
        place = posixpath.normpath(posixpath.join(posixpath.dirname(page.file.src_uri), path))
        if image or not (place.startswith("..") or place.endswith(".py")):
            return match[0]
        name = place.removeprefix("../") if place.startswith("..") else f"docs/{place}"
        return text if name in text else f"{text} (`{name}`)"

    return LINK.sub(link, markdown)


def _from_docs(text: str) -> str:
    """README with its links as they are from docs/."""

    def link(match):
        image, words, path, anchor = match.groups()
        words = LINK.sub(link, words)  # an image in a link
        path = path.removeprefix("docs/") if path.startswith("docs/") else f"../{path}"
        return f"{image}[{words}]({path}{anchor or ''})"

    return LINK.sub(link, text)
