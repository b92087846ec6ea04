"""Pages as a browser would find them, and texts that would like to be more than text."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    '" data-tip="x" onfocus="alert(1)" autofocus="',
    "<iframe src='javascript:alert(1)'></iframe>",
    "<a href=javascript:alert(1)>click</a>",
    "]]><script>alert(1)</script><!--",
    "<!--", "-->", "&lt;script&gt;alert(1)&lt;/script&gt;",
    "{{ 7 * 7 }}{% for x in range(9) %}x{% endfor %}",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<form action=https://evil.example><input name=a></form>",
    "\x1b[31mred\x1b[0m \u202ereversed\x00 \ud800",
    "<math><mtext></table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
]  # fmt: skip

VOID = {"meta", "link", "img", "br", "input", "base", "hr"}


class Page(HTMLParser):
    """What a browser would find: elements with attributes, texts, and the contents of script and style."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in self.inline:
            self.inline[tag].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in self.inline:
            self.inline[self.open[-1]][-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def policy(page: Page) -> str:
    return next(
        attributes["content"] or ""
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )


def assert_inert(page: Page) -> None:
    """One script and one style, both allowed by hash; no handlers, no styles in attributes, nothing that loads."""
    for kind in ("script", "style"):
        assert len(page.inline[kind]) == 1
        digest = base64.b64encode(hashlib.sha256(page.inline[kind][0].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy(page)
    assert policy(page).startswith("default-src 'none'")
    assert "unsafe" not in policy(page) and "http" not in policy(page)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "form",
        "input",
        "img",
        "image",
        "use",
        "foreignobject",
    }
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("style", "src", "srcset", "xlink:href", "formaction", "action"), (tag, name)
            if name == "href":
                assert value is not None and value.startswith("#")
            if name == "http-equiv":
                assert value == "Content-Security-Policy"
    assert page.open == []
