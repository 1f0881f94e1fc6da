"""What mkdocs does not do by itself: README as the first page, the notebook as a page, and links out of docs/.

A page links to files of the repository, so that the links work where the repository is looked at. Some of these files
become pages of the site; a link to any other becomes the file's name.
"""

import json
import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s#:]+)(#[^)]*)?\)")
PAGES = {  # file -> its page; a link to a folder leads to its README
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "LICENSE": "licence.md",
    "docs/whole_way.ipynb": "whole_way.md",
    "results/README.md": "results.md",
    "results/LICENSES.md": "results_licences.md",
    **{
        f"results/{path.parent.name}/README.md": f"{path.parent.name}.md"
        for path in sorted(ROOT.glob("results/*/README.md"))
    },
}

MARKDOWN = {"": lambda text: f"# Licence\n\n```\n{text}```\n", ".ipynb": lambda text: _notebook(text)}


def on_files(files, config):
    for name, page in PAGES.items():
        text = (ROOT / name).read_text()
        text = MARKDOWN.get(Path(name).suffix, str)(text)
        files.append(File.generated(config, page, content=_relinked(text, posixpath.dirname(name))))
    return files


def _notebook(text: str) -> str:
    """A notebook's cells, each with what it showed."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                parts.append(f"![what the cell draws](data:image/png;base64,{''.join(picture.split())})")
            else:
                parts.append(f"```text\n{''.join(output['text'])}\n```")
    return "\n\n".join(parts)


def on_page_markdown(markdown, page, config, files):
    return markdown if page.file.src_uri in PAGES.values() else _relinked(markdown, "docs", page.file.src_uri)


def _relinked(text: str, folder: str, page: str = "index.md") -> str:
    """The text of a page of the site, whose links were relative to a folder of the repository."""

    def link(match):
        image, words, path, anchor = match.groups()
        words = LINK.sub(link, words)  # an image in a link
        name = posixpath.normpath(posixpath.join(folder, posixpath.dirname(page), path))
        target = PAGES.get(name) or PAGES.get(f"{name}/README.md")
        if target is None and name.startswith("docs/"):
            target = name.removeprefix("docs/")
        if target is None or target.endswith(".py"):
            known = words.strip("`") in (name, posixpath.basename(name))
            return f"`{name}`" if known else f"{words} (`{name}`)"
        return f"{image}[{words}]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor or ''})"

    return LINK.sub(link, text)
