"""The documentation site: what `make docs` builds, as readers get it in a browser.

MkDocs itself reports a link or an anchor that leads nowhere and a page that is in no menu; here it
is shown that the build then fails.
"""

import functools
import http.server
import os
import re
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from markdown_it import MarkdownIt
from playwright.sync_api import Page, Route, expect
from test_console_layout import RULES, WIDTHS

from tools import browser as chromium
from tools import docs_site

ROOT = Path(__file__).parent.parent
MKDOCS = ROOT / ".tools" / "docs" / "bin" / "mkdocs"
SOURCES = sorted((ROOT / "docs").rglob("*.md"))

pytestmark = pytest.mark.skipif(not MKDOCS.exists(), reason="`make docs` installs MkDocs")
in_a_browser = pytest.mark.skipif(
    chromium.executable() is None,
    reason="no Chromium: apt install chromium, or set the variable CHROMIUM to its path",
)

VIEWS = ("", "parameters/", "commands/", "performance/", "adr/0017-the-local-stack-is-closed/")
"""Pages that are looked at: the first, three that are generated, with code and with tables of many
columns, and a decision."""

NOT_ON_PHONES = ["color-contrast"]
"""Rules of axe that take longest, and that find the same in the layout of a phone."""

NOT_MET = ["landmark-unique"]
"""Rules of axe that Material does not meet: each button to copy code is a `nav` of its own. It is a
recommendation, not a criterion of WCAG."""

AXE = """([rules, off]) => axe.run(
    { exclude: ["article > :nth-child(n + 50)", "tr:nth-child(n + 6)"] },
    { runOnly: rules, rules: Object.fromEntries(off.map((id) => [id, { enabled: false }])) },
)"""
"""JavaScript that checks a page by rules with some tags, but not by those that are off.

It leaves out what comes late in a long page or table, which looks as what comes before it.
"""

COMPARED = {"h1", "h2", "h3", "h4", "ul", "ol", "li", "table", "tr", "th", "td", "pre", "a", "em"}
COMPARED |= {"code", "strong", "blockquote", "img"}
"""Elements of which a page has as many here as on GitHub. Paragraphs differ: an item of a list may
be one or not."""


def build(project: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of a project into a folder."""
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(  # noqa: S603 - the pinned MkDocs
        [MKDOCS, "build", "--site-dir", folder],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files, without a log."""

    def log_message(self, *_: object) -> None:
        """Do nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The address at which the site is served, under a path as on GitHub Pages."""
    (site.parent / "image-pipeline").symlink_to(site)
    handler = functools.partial(Handler, directory=str(site.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/image-pipeline/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """The addresses that pages have asked for."""
    return []


@pytest.fixture(scope="module")
def page(address: str, asked: list[str]) -> Iterator[Page]:
    """A tab that remembers every request, and lets only those to the site through."""

    def pass_on(route: Route) -> None:
        asked.append(route.request.url)
        if route.request.url.startswith(address):
            route.continue_()
        else:
            route.abort()

    with chromium.launched() as browser:
        page = browser.new_page(base_url=address, reduced_motion="reduce")
        page.route("**/*", pass_on)
        yield page


class Elements(HTMLParser):
    """Counts the elements and words of a text, or of the article in a page.

    `sources` are what a browser loads for it.
    """

    def __init__(self, html: str, *, page: bool = False) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.sources: list[str] = []
        self.words: list[str] = []
        self._inside = not page
        self.feed(html)

    def handle_data(self, data: str) -> None:
        """Keep the words of a text."""
        if self._inside:
            self.words += data.replace("¶", "").split()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count an element, and keep what a browser would load for it."""
        given = {name: value or "" for name, value in attrs}
        self._inside = self._inside or tag == "article"
        if self._inside and "headerlink" not in given.get("class", ""):
            self.counts[tag] += 1
        self.sources += filter(None, (given.get("src"), given.get("srcset")))
        if tag == "link" and given.get("rel") != "canonical":
            self.sources.append(given["href"])

    def handle_endtag(self, tag: str) -> None:
        """Stop at the end of the article."""
        self._inside = self._inside and tag != "article"


def html_of(source: Path, site: Path) -> str:
    """Return the page that was made of a file of docs/."""
    name = source.relative_to(ROOT / "docs")
    folder = name.parent if name.name == "README.md" else name.with_suffix("")
    return (site / folder / "index.html").read_text()


def test_pages_have_what_they_have_on_github(site: Path) -> None:
    """Each page has the words of the page on GitHub, and as many lists, tables, links and so on.

    GitHub follows CommonMark, as markdown-it does. MkDocs's own Markdown is older: without
    tools/docs_site.py it breaks lists apart.
    """
    github = MarkdownIt("commonmark").enable("table")
    differences = {}
    for source in SOURCES:
        there = Elements(github.render(source.read_text()))
        here = Elements(html_of(source, site), page=True)
        if "picture" in there.counts:
            there.counts["img"] += there.counts["picture"]  # one for each colour scheme
        counts = {tag: (there.counts[tag], here.counts[tag]) for tag in COMPARED}
        differences |= {
            f"{source.name}, {tag}": two for tag, two in counts.items() if len({*two}) > 1
        }
        if "".join(there.words) != "".join(here.words):
            differences[f"{source.name}, words"] = (len(there.words), len(here.words))
    assert differences == {}


def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    """Scripts, styles, fonts and pictures of every page are files of the site."""
    loaded = {each for path in site.rglob("*.html") for each in Elements(path.read_text()).sources}
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    loaded |= set(re.findall(r"(?:url\(|@import )[\"']?(https?:[^\"')]+)", styles))
    assert len(loaded) > len(VIEWS)
    assert [each for each in loaded if urlsplit(each).netloc] == []


def test_links_out_of_docs_lead_to_the_repository(site: Path) -> None:
    """A link to a file beside docs/ leads to that file on GitHub; links to pages stay here."""
    html = html_of(ROOT / "docs" / "serving.md", site)
    url = f"{docs_site.files_url()}/image_pipeline/local/site.html"
    assert f'href="{url}"' in html
    assert re.fullmatch(
        r"https://github\.com/[\w-]+/image-pipeline/blob/main", docs_site.files_url()
    )
    kept = "[a](../images.md#shapes) [b](0016-x.md) ![c](../img/a.png)"
    assert docs_site.adapt(kept, "adr/0001-x.md") == kept
    text = docs_site.adapt("[a](../../iac/template.yaml#L1)", "adr/0001-x.md")
    assert text == f"[a]({docs_site.files_url()}/iac/template.yaml#L1)"


def test_what_leads_nowhere_stops_the_build(tmp_path: Path) -> None:
    """A missing page, anchor or picture, and a page that is in no menu, are errors."""
    for name in ("docs", "tools", "pyproject.toml", "mkdocs.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").unlink()
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    text = "[a](nowhere.md) [b](deploy.md#nowhere) ![c](img/nowhere.png) [d](/absolute)\n"
    (tmp_path / "docs" / "unlisted.md").write_text(f"# Unlisted\n\n{text}")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    named = ("nowhere.md", "deploy.md#nowhere", "img/nowhere.png", "/absolute")
    assert [sum(f"'{each}'" in line for line in warnings) for each in named] == [1, 1, 1, 1]
    assert len(warnings) == len(named) + 1
    assert "\n  - unlisted.md\n" in done.stderr


@in_a_browser
def test_pages_are_accessible_and_fit(page: Page, asked: list[str], address: str) -> None:
    """In both colour schemes axe finds no violation of WCAG 2.2 AA, on desktop and phone.

    No page scrolls sideways, and none asks another host for anything.
    """
    problems = []
    for view in VIEWS:
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page.goto(view)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        page.evaluate(Axe().axe_script)
        for scheme, rules in RULES.items():
            page.emulate_media(color_scheme=scheme)
            name = {"light": "default", "dark": "slate"}[scheme]
            expect(page.locator("body")).to_have_attribute("data-md-color-scheme", name)
            problems += violations(page, rules, NOT_MET)
        page.set_viewport_size({"width": WIDTHS[1], "height": 900})
        problems += violations(page, RULES["light"], NOT_MET + NOT_ON_PHONES)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            if overflow > 0:
                problems.append(f"{view}, {width} px: {overflow} px too wide")
    assert not problems, "\n".join(problems)
    assert [url for url in asked if not url.startswith(address)] == []


def violations(page: Page, rules: list[str], off: list[str]) -> list[str]:
    """Return what axe reports of the page as it is now, if it finds a violation."""
    found = AxeResults(page.evaluate(AXE, [rules, off]))
    scheme = page.evaluate("document.body.dataset.mdColorScheme")
    return [f"{page.url}, {scheme}: {found.generate_report()}"] if found.violations_count else []


@in_a_browser
def test_the_search_finds_a_page(page: Page, asked: list[str], address: str) -> None:
    """Words in the search lead to the page about them rather than to a decision about it."""
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.goto("")
    page.get_by_role("textbox", name="Search").fill("manifest")
    page.locator(".md-search-result__link").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Events and logs")
    assert [url for url in asked if not url.startswith(address)] == []
