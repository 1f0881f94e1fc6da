"""What mkdocs does not do by itself: README as the first page, and links to files that are not in docs/.

A page links to files of the repository, so that the links work where the repository is looked at. Some of these files
become pages of the site; a link to any other becomes the file's name.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s#:]+)(#[^)]*)?\)")
PAGES = {  # file -> its page
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "licence.md",
    "results/README.md": "results.md",
}


def on_files(files, config):
    for name, page in PAGES.items():
        text = (ROOT / name).read_text()
        text = _relinked(text, posixpath.dirname(name)) if name.endswith(".md") else f"# Licence\n\n```\n{text}```\n"
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    return markdown if page.file.src_uri in PAGES.values() else _relinked(markdown, "docs", page.file.src_uri)


def _relinked(text: str, folder: str, page: str = "index.md") -> str:
    """The text of a page of the site, whose links were relative to a folder of the repository."""

    def link(match):
        image, words, path, anchor = match.groups()
        words = LINK.sub(link, words)  # an image in a link
        name = posixpath.normpath(posixpath.join(folder, posixpath.dirname(page), path))
        target = PAGES.get(name, name.removeprefix("docs/") if name.startswith("docs/") else None)
        if target is None or target.endswith(".py"):
            known = words.strip("`") in (name, posixpath.basename(name))
            return f"`{name}`" if known else f"{words} (`{name}`)"
        return f"{image}[{words}]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor or ''})"

    return LINK.sub(link, text)
