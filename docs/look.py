"""Look at every page of the built site in headless Chromium: at three widths, and in greyscale.

::

    python -m docs.look                    # pictures and contact sheets in docs/_build/look
    python -m docs.look paint start        # pages whose address has one of these words

A page is refused that scrolls sideways, asks for something that it does not get (or for anything beyond the disk),
writes an error to the console, cuts off text, or has letters of less than nine pixels at 830 pixels. Chromium comes
with Debian (``apt-get install --no-install-recommends chromium``), or is named in CHROMIUM.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from PIL import Image
from rich.progress import track
from websockets.sync.client import ClientConnection, connect

DOCS = Path(__file__).resolve().parent
SITE, LOOK = DOCS / "_build" / "html", DOCS / "_build" / "look"
#: Widths of a desktop's window, of a repository's page, and of a telephone, in pixels; the second is also seen in grey.
WIDTHS, GREY = (1280, 830, 390), 830
#: Seconds until a page is given up.
PATIENCE = 30
#: Longest picture of a page, in pixels; the rest is not shown.
LONGEST = 12_000
SMALLEST = """(() => { const seen = []; const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const e = walk.currentNode.parentElement; const box = e.getBoundingClientRect();
    if (walk.currentNode.textContent.replace(/[\\s\u200b]/g, "") && box.width && box.height
        && getComputedStyle(e).visibility === "visible"
        && !e.closest(".katex-mathml, script, style, .sr-only, .visually-hidden"))
      seen.push([parseFloat(getComputedStyle(e).fontSize), walk.currentNode.textContent.trim().slice(0, 40)]); }
  return seen.sort((a, b) => a[0] - b[0])[0]; })()"""

#: Text that lies beyond the window's edge, is cut off by a box around it, or begins before a box that scrolls.
CUT = """(() => { const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const e = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    const range = document.createRange(); range.selectNodeContents(walk.currentNode);
    const seen = range.getBoundingClientRect(), style = getComputedStyle(e);
    if (!text.replace(/\\u200b/g, "") || !seen.width || !seen.height || style.visibility !== "visible"
        || e.closest(".katex-mathml, script, style, .sr-only, .visually-hidden, .skip-link, #pst-skip-link")) continue;
    let box = e; while (box && getComputedStyle(box).overflowX === "visible") box = box.parentElement;
    const inside = box && box !== document.body && box !== document.documentElement;
    const edges = inside ? box.getBoundingClientRect() : {left: 0, right: innerWidth};
    const scrolls = inside && /auto|scroll/.test(getComputedStyle(box).overflowX);
    const left = edges.left - (inside ? box.scrollLeft : 0);
    if (seen.left < left - 1 || (!scrolls && seen.right > edges.right + 1)) return text.slice(0, 40); }
  return ""; })()"""


class Browser:
    """One tab of a Chromium, spoken to over its debugging protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket, self.numbers, self.events = socket, itertools.count(1), []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """Send a command and wait for its answer; events in between are kept."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(PATIENCE))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self.events.append(message)

    def open(self, address: str) -> None:
        """Load a page, and wait until it and its fonts are there."""
        self.events.clear()
        self.ask("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(json.loads(self.socket.recv(PATIENCE)))
        self.value("document.fonts.ready.then(() => true)")

    def value(self, expression: str) -> Any:
        """Value of an expression on the page."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return found["result"].get("value")

    def widen(self, width: int) -> None:
        """Set the width of the window."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def picture(self) -> Image.Image:
        """Take a picture of the whole page."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], LONGEST), "scale": 1}
        found = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return Image.open(io.BytesIO(base64.b64decode(found["data"]))).convert("RGB")

    def faults(self) -> Iterator[str]:
        """What went wrong while the page was loaded."""
        for event in self.events:
            method, given = event.get("method"), event.get("params", {})
            if method == "Network.loadingFailed" and not given.get("canceled"):
                yield f"request failed: {given['errorText']}"
            elif method == "Network.requestWillBeSent" and given["request"]["url"].startswith("http"):
                yield f"asks the network for {given['request']['url']}"
            elif method == "Runtime.exceptionThrown":
                yield f"exception: {given['exceptionDetails'].get('exception', {}).get('description', '')[:200]}"
            elif method == "Log.entryAdded" and given["entry"]["level"] == "error":
                yield f"console: {given['entry']['text'][:200]}"
            elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "assert"):
                yield f"console: {given['args'][0].get('value', '')!s:.200}"


@contextmanager
def browser() -> Iterator[Browser]:
    """Start a Chromium and end it."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("no Chromium: apt-get install --no-install-recommends chromium, or name one in CHROMIUM")
    with tempfile.TemporaryDirectory() as home:
        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                   f"--user-data-dir={home}", "--remote-debugging-port=0", "--allow-file-access-from-files",
                   "about:blank"]  # fmt: skip
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if "DevTools listening" in line)
            address = re.search(r"ws://([^/]+)/", line)
            assert address
            with urlopen(f"http://{address[1]}/json") as answer:
                tabs = json.load(answer)
            tab = next(tab for tab in tabs if tab["type"] == "page")
            with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
                yield Browser(socket)
        finally:
            process.terminate()
            process.wait()
            process.stderr.close()


def look(tab: Browser, page: Path) -> tuple[dict[str, Image.Image], list[str]]:
    """Pictures of a page at every width, and its faults."""
    tab.widen(WIDTHS[0])
    tab.open(page.as_uri())
    pictures, faults = {}, []
    for width in WIDTHS:
        tab.widen(width)
        wide = tab.value("document.documentElement.scrollWidth")
        if wide > width:
            faults.append(f"at {width} pixels it is {wide} wide")
        if cut := tab.value(CUT):
            faults.append(f"at {width} pixels this is cut off: {cut!r}")
        pictures[str(width)] = tab.picture()
        if width == GREY:
            smallest = tab.value(SMALLEST)
            if smallest and smallest[0] < 9:
                faults.append(f"letters of {smallest[0]:.1f} pixels at {GREY}: {smallest[1]!r}")
            pictures["grey"] = pictures[str(width)].convert("L").convert("RGB")
    return pictures, [*tab.faults(), *faults]


def contact_sheet(pictures: Sequence[Image.Image], path: Path, height: int = 1600) -> None:
    """Put pictures beside each other, each cut and scaled to one height."""
    scaled = []
    for picture in pictures:
        part = picture.crop((0, 0, picture.width, min(picture.height, 6 * picture.width)))
        if part.height > height:
            part = part.resize((round(part.width * height / part.height), height))
        scaled.append(part)
    sheet = Image.new("RGB", (sum(p.width for p in scaled) + 10 * len(scaled), height), "#888")
    left = 0
    for picture in scaled:
        sheet.paste(picture, (left, 0))
        left += picture.width + 10
    sheet.save(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at the pages; 1 if one is refused."""
    parser = argparse.ArgumentParser(prog="python -m docs.look", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("words", nargs="*", metavar="WORD", help="only pages whose address has one of these")
    options = parser.parse_args(arguments)
    pages = [page for page in sorted(SITE.rglob("*.html"))
             if "_static" not in page.parts
             and any(word in page.relative_to(SITE).as_posix() for word in options.words or [""])]  # fmt: skip
    if not pages:
        raise SystemExit(f"no pages in {SITE}; build them first: python -m docs.build")
    LOOK.mkdir(parents=True, exist_ok=True)
    refused = 0
    with browser() as tab:
        for page in track(pages, "looking", disable=not sys.stdout.isatty()):
            name = page.relative_to(SITE).with_suffix("").as_posix()
            pictures, faults = look(tab, page)
            contact_sheet(list(pictures.values()), LOOK / f"{name.replace('/', '-')}.png")
            refused += bool(faults)
            for fault in dict.fromkeys(faults):
                print(f"{name}: {fault}")
    print(f"{len(pages)} pages looked at, {refused} refused; contact sheets in {LOOK}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
