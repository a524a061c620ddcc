"""Check the links of the built pages, offline: ``python docs/check_links.py folder``.

Every link to a page, a picture or another file of the site must lead to a file, and
every link into a page to a place of it.  Links to other sites are not looked at.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Links(HTMLParser):
    """The links of a page, and the places in it that others can link to."""

    def __init__(self, path):
        super().__init__()
        self.found, self.places = [], {"", "top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        """Collect the attributes that are links or names."""
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.found.append(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.places.add(value)


def is_page(path, folder):
    """Tell pages from what themes keep among their files."""
    return not path.relative_to(folder).parts[0].startswith("_")


def broken(folder):
    """Yield each page with each link of it that leads nowhere."""
    folder = Path(folder).resolve()
    paths = [path for path in sorted(folder.rglob("*.html")) if is_page(path, folder)]
    pages = {path: Links(path) for path in paths}
    for path, page in pages.items():
        for link in sorted(set(page.found)):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
            target = target / "index.html" if target.is_dir() else target
            there = target.exists()
            if there and parts.fragment and target in pages:
                there = unquote(parts.fragment) in pages[target].places
            if not there:
                yield f"{path.relative_to(folder)}: {link}"


def main():
    """Print what is broken, and fail if anything is."""
    folder = Path(sys.argv[1])
    if not (folder / "index.html").exists():
        sys.exit(f"there is no site in {folder}")
    found = list(broken(folder))
    sys.exit("\n".join(found) or None)


if __name__ == "__main__":
    main()
