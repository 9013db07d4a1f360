"""Open the page of a store in headless Chromium: what it asks for, whether it fits each width, and how it looks.

python tests/benchmarks/look_gallery.py [--store prototypes] [--out DIRECTORY]

Prints for each width and colour scheme the requests that the page made beside its own file, the messages of its
console, and whether it is wider than its window; exit 1 where anything is so. The screenshots lie in the directory.
Needs Chromium (`apt-get install chromium`), which no package that the tests install has.
"""

import argparse
import asyncio
import base64
import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp

import protogen

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WINDOWS = {"phone": (375, 812), "desktop": (1280, 900)}
SCHEMES = ("light", "dark")
WITHIN_S = 30.0


class Tab:
    """A tab of a browser that speaks the DevTools protocol: calls out, events in."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result; what happens meanwhile goes among the events."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=WITHIN_S)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return dict(message["result"])
            self.events.append(message)

    async def until(self, event: str) -> None:
        """Wait for an event."""
        while event not in (each["method"] for each in self.events):
            self.events.append(await self._socket.receive_json(timeout=WITHIN_S))


async def look(page: Path, folder: Path, port: int) -> int:
    """Open a page in each window and scheme; print what was found, and count what is wrong."""
    address, wrong = page.resolve().as_uri(), 0
    async with aiohttp.ClientSession() as session:
        async with session.put(f"http://127.0.0.1:{port}/json/new") as answer:
            tab_address = (await answer.json())["webSocketDebuggerUrl"]
        async with session.ws_connect(tab_address, max_msg_size=0) as socket:
            tab = Tab(socket)
            for domain in ("Page", "Network", "Log", "Runtime"):
                await tab.call(f"{domain}.enable")
            for (window, (width, height)), scheme in itertools.product(WINDOWS.items(), SCHEMES):
                tab.events.clear()
                screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": window == "phone"}
                await tab.call("Emulation.setDeviceMetricsOverride", **screen)
                colours = [{"name": "prefers-color-scheme", "value": scheme}]
                await tab.call("Emulation.setEmulatedMedia", features=colours)
                await tab.call("Page.navigate", url=address)
                await tab.until("Page.loadEventFired")
                wide = await tab.call("Runtime.evaluate", expression="document.documentElement.scrollWidth")
                shot = await tab.call("Page.captureScreenshot", captureBeyondViewport=False)
                (folder / f"{window}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
                asked = {
                    each["params"]["request"]["url"]
                    for each in tab.events
                    if each["method"] == "Network.requestWillBeSent"
                }
                said = [each["params"]["entry"]["text"] for each in tab.events if each["method"] == "Log.entryAdded"]
                pixels = wide["result"]["value"]
                others = sorted(asked - {address})
                print(f"{window} {scheme}: {pixels} of {width} pixels wide, other requests {others}, console {said}")
                wrong += (pixels > width) + len(others) + len(said) + (address not in asked)
    return wrong


def main() -> None:
    """Write the page of a store, open it, and end with 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="prototypes")
    parser.add_argument("--out", type=Path, default=Path("gallery"))
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"no browser: none of {', '.join(BROWSERS)} is there; run `apt-get install chromium`")
    options.out.mkdir(parents=True, exist_ok=True)
    written = protogen.write_gallery(options.out / "gallery.html", store=options.store)
    print(f"{written.path}: {written.sets} sets, {written.bytes / 1e6:.2f} MB")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0"]
        started = subprocess.Popen([browser, *words, f"--user-data-dir={profile}"], stderr=subprocess.DEVNULL)
        try:
            wrong = asyncio.run(look(written.path, options.out, asyncio.run(port_of(Path(profile)))))
        finally:
            started.terminate()
            started.wait()
    sys.exit(wrong > 0)


async def port_of(profile: Path) -> int:
    """Wait until the browser has written the port that it listens on."""
    file = profile / "DevToolsActivePort"
    async with asyncio.timeout(WITHIN_S):
        while not file.exists() or not file.read_text():
            await asyncio.sleep(0.05)
    return int(file.read_text().splitlines()[0])


if __name__ == "__main__":
    main()
