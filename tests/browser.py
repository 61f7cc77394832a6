"""Drives a headless Chromium through chromedriver, whose protocol (W3C WebDriver) is plain JSON."""

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import urllib.request

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-sync", "--disable-background-networking", "--disable-component-update"),
    *("--enable-unsafe-swiftshader", "--window-size=1200,800"),
    "--host-resolver-rules=MAP * ~NOTFOUND",  # a page that asks the network for anything fails
)


def executables():
    """Paths of chromedriver and of Chromium or Chrome, or None where one is missing."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    driver = shutil.which("chromedriver")
    browser = next(filter(None, map(shutil.which, names)), None)
    return (driver, browser) if driver and browser else None


class Browser:
    def __init__(self, address, profile, binary):
        self._address = address
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": binary}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._call("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self._address += "/" + answer["sessionId"]

    def _call(self, verb, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data=data, method=verb)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)["value"]

    def open(self, path):
        self._call("POST", "/url", {"url": path.resolve().as_uri()})

    def run(self, script, *arguments):
        """What a script returns; it may return a promise."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait_for(self, condition):
        """Returns once an expression is true; an error after 30 seconds, the driver's own limit."""
        script = f"return new Promise((done) => {{ const look = () => {condition} "
        script += "? done(true) : setTimeout(look, 20); look(); })"
        assert self.run(script)

    def click(self, x, y):
        """Moves the mouse to a place in the window and clicks there."""
        move = {"type": "pointerMove", "duration": 50, "origin": "viewport"}
        actions = [
            move | {"x": round(x) - 3, "y": round(y) - 3},
            move | {"x": round(x), "y": round(y)},
            {"type": "pause", "duration": 300},  # plotly looks at most every 50 ms what is there
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        mouse = {"type": "pointer", "id": "mouse", "actions": actions}
        self._call("POST", "/actions", {"actions": [mouse]})

    def screenshot(self):
        """The window as PNG in base64."""
        return self._call("GET", "/screenshot")

    def complaints(self):
        """What the page and its policy wrote to the console."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def close(self):
        self._call("DELETE", "")


@contextlib.contextmanager
def browser():
    driver, binary = executables()
    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout:
                if found := re.search(r"started successfully on port (\d+)", line):
                    break
            opened = Browser(f"http://127.0.0.1:{found[1]}/session", profile, binary)
            try:
                yield opened
            finally:
                opened.close()
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()
