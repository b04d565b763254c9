"""The landing page of the real process in a real Chromium."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.browser import ENTER, TAB, Browser
from support.configurations import simulated
from support.exporter import Exporter
from support.faked_clock import FakedClock
from support.faults import Fault, FaultySimulator

from taskrouter_exporter import __version__
from taskrouter_exporter.revision import documentation_url
from taskrouter_exporter.simulator import ContactCentre, Simulator
from taskrouter_exporter.simulator.wire import Answer

StartExporter = Callable[..., Exporter]
HOSTILE_NAMES = (
    "<script>document.title='x'</script>",
    '"><img src=x onerror="document.title=\'x\'">',
    "'--></style></table><svg onload=document.title='x'>&lt;b&gt;{{7*7}}",
)
TITLE = "TaskRouter exporter"
DESKTOP, PHONE, SMALL_PHONE = (1280, 800), (390, 844), (375, 812)
ROWS = "[...document.querySelectorAll('#targets tbody tr')]"
NAMES = f"{ROWS}.filter(row => !row.hidden).map(row => row.cells[0].innerText + '/' + row.cells[1].innerText)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Browser]]:
    """One Chromium for all tests of the module: its start takes longest."""
    started: list[Browser] = []

    def start(chromedriver: str, chromium: str) -> Browser:
        if not started:
            started.append(Browser(chromedriver, chromium, tmp_path_factory.mktemp("browser") / "chromium"))
        return started[0]

    yield start
    for browser in started:
        browser.close()


@pytest.fixture
def browser(
    program: Callable[[str, str], str], chromium: Callable[[str, str], Browser], tmp_path: Path
) -> Iterator[Browser]:
    del tmp_path
    browser = chromium(program("chromedriver", "chromium-driver"), program("chromium", "chromium"))
    browser.show_as(*DESKTOP)
    yield browser
    browser.open("about:blank")


@pytest.fixture
def save_screenshot(browser: Browser, tmp_path: Path) -> Callable[[str], None]:
    """Keep what the window shows, in $SCREENSHOTS or the test's own directory."""
    directory = Path(os.environ.get("SCREENSHOTS", tmp_path))
    return lambda name: browser.screenshot(directory / f"{name}.png")


@pytest.fixture
def busy(simulator: FaultySimulator, start_exporter: StartExporter) -> Exporter:
    """An exporter that was scraped, with a long name, many windows and a target that is down."""
    config = simulated(simulator, attempts=1)
    config["targets"][1] |= {"name": "x" * 200, "windows": ["15m", "4h", "8h", "1d", "1w"]}
    simulator.faults.set(simulator.centre.workspaces[2].sid, Fault.status(503))
    exporter = start_exporter(config)
    exporter.scrape()
    return exporter


@pytest.fixture
def troubled(busy: Exporter, tmp_path: Path) -> Exporter:
    """The busy exporter after a failed reload."""
    (tmp_path / "config.yaml").write_text("targets: 5", encoding="utf-8")
    assert busy.request("/-/reload", "POST").status == 500
    return busy


@pytest.fixture(scope="module")
def axe() -> str:
    """The text of axe-core, which this package contains."""
    package = find_spec("axe_playwright_python")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")


def address(exporter: Exporter, path: str = "/") -> str:
    return f"http://{exporter.address}{path}"


def named(simulator: Simulator, names: tuple[str, ...]) -> dict[str, Any]:
    config = simulated(simulator)
    for target, name in zip(config["targets"], names, strict=True):
        target["name"] = name
    return config


def scrolls_sideways(browser: Browser) -> bool:
    return bool(
        browser.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth")
    )


def contrasts(browser: Browser) -> dict[str, float]:
    """Contrast of each text colour of the page with its background (WCAG 2.2, "contrast ratio")."""
    found: dict[str, float] = browser.run("""
        const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
        const luminance = color => {
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(
                each => each / 255 <= 0.04045 ? each / 255 / 12.92 : ((each / 255 + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const probe = document.body.appendChild(document.createElement("i"));
        probe.style.background = "Canvas";
        const behind = luminance(getComputedStyle(probe).backgroundColor);
        probe.remove();
        return Object.fromEntries([...document.querySelectorAll("body *")].map(element => {
            const color = getComputedStyle(element).color, front = luminance(color);
            return [color, (Math.max(front, behind) + 0.05) / (Math.min(front, behind) + 0.05)];
        }));
    """)
    return found


def test_the_page_shows_every_target_s_state_at_its_last_poll(
    browser: Browser, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator, attempts=1))
    browser.open(address(exporter))
    assert browser.title == TITLE
    assert __version__ in browser.text
    assert browser.text.count("not polled yet") == 7, "the headline and each row"
    assert browser.text.count("never") == 6

    ill, *_ = simulator.centre.workspaces
    simulator.faults.set(ill.sid, Fault.status(401))
    exporter.scrape()
    time.sleep(1)  # the page is kept for a second
    browser.open(address(exporter))
    rows: list[list[str]] = browser.run(
        f"return {ROWS}.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    assert [(row[0], row[1]) for row in rows] == [
        (workspace.friendly_name, channel)
        for workspace in simulator.centre.workspaces
        for channel in ("all", "voice")
    ]
    for row in rows:
        assert row[2] == ("down: authentication failed" if row[0] == ill.friendly_name else "up")
        assert row[3] == "15m, day"
        for count in row[4:8]:
            assert re.fullmatch("-" if row[2] != "up" else r"[\d,]+( \(\d+\.\d %\))?", count)
        assert re.fullmatch(r"\d+ s ago", row[8])
        assert re.fullmatch(r"\d\.\d\d s", row[9])
    assert "2 of 6 targets down" in browser.text
    name = simulator.centre.workspaces[1].friendly_name
    assert re.search(rf"{name}, [A-Za-z/]+: 4,?99\d of 5,?000 requests remaining", browser.text)


def test_a_click_on_a_probe_link_leads_to_the_target_s_metrics(
    browser: Browser, simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    name = simulator.centre.workspaces[1].friendly_name
    browser.open(address(exporter))
    browser.click(f"a[href='./probe?workspace={name}&channel=voice']")
    assert browser.url == address(exporter, f"/probe?workspace={name}&channel=voice")
    labels = f'workspace="{name}",channel="voice",window="15m",statistics="workers"'
    assert f"twilio_taskrouter_up{{{labels}}} 1.0" in browser.text
    browser.open(address(exporter))
    browser.click(f"a[href='./probe?workspace={name}&channel=voice&debug=true']")
    assert f"Query: workspace '{name}', channel 'voice', workers, 15m" in browser.text


def test_every_link_of_the_page_leads_somewhere(
    browser: Browser, simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(named(simulator, HOSTILE_NAMES), ["--web.telemetry-path=/own-metrics"])
    browser.open(address(exporter))
    links: list[str] = browser.run("return [...document.links].map(link => link.getAttribute('href'))")
    local = [link for link in links if link.startswith(".")]
    assert {
        "./own-metrics",
        "./sd",
        "./api/v1/failures",
        "./config",
        "./config.schema.json",
        "./-/healthy",
        "./-/ready",
    } < set(local)
    assert len([link for link in local if link.startswith("./probe?")]) == 12
    assert [link for link in links if not link.startswith(".")] == [documentation_url(__version__)]
    for link in local:
        assert exporter.request(link.removeprefix(".")).status == 200, link


def test_a_hostile_workspace_name_is_shown_and_does_nothing(
    browser: Browser,
    simulator: Simulator,
    start_exporter: StartExporter,
    save_screenshot: Callable[[str], None],
) -> None:
    exporter = start_exporter(named(simulator, HOSTILE_NAMES))
    exporter.scrape()
    browser.open(address(exporter))
    for name in HOSTILE_NAMES:
        assert browser.text.count(name) >= 3, "two channels and the rate limit"
    assert browser.title == TITLE
    assert browser.run("return document.querySelectorAll('img, svg, iframe, link, form').length") == 0
    assert browser.run("return document.scripts.length") == 1
    assert browser.run("return [...document.querySelectorAll('*')].every(e => "
                       "[...e.attributes].every(a => !a.name.startsWith('on')))")  # fmt: skip
    browser.click("tbody tr:first-child a:first-child")
    assert HOSTILE_NAMES[0] in browser.text
    assert browser.title != "x"
    browser.open(address(exporter))
    browser.show_as(*PHONE, phone=True)
    save_screenshot("hostile-phone")
    assert not scrolls_sideways(browser)


def test_a_hostile_activity_name_is_text_in_a_probe_and_its_debug_output(
    browser: Browser, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    def rewrite(answer: Answer) -> Answer:
        content = json.loads(answer.body)
        content["activity_durations"][0]["friendly_name"] = HOSTILE_NAMES[0]
        return replace(answer, body=json.dumps(content).encode())

    workspace = simulator.centre.workspaces[0]
    simulator.faults.set(workspace.sid, Fault("hostile", rewrite=rewrite))
    exporter = start_exporter(simulated(simulator))
    for more in ("", "&debug=true"):
        browser.open(address(exporter, f"/probe?workspace={workspace.sid}&channel=all{more}"))
        assert HOSTILE_NAMES[0] in browser.text
        assert browser.title != "x"
        assert browser.run("return document.querySelectorAll('script, table').length") == 0


def test_the_content_security_policy_blocks_resources_and_scripts(
    browser: Browser, simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    headers = exporter.request("/").headers
    policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
    hashes = {element: policy.pop(f"{element}-src") for element in ("script", "style")}
    assert all(re.fullmatch("'sha256-[A-Za-z0-9+/]{43}='", allowed) for allowed in hashes.values())
    assert policy == {
        "default-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    # Chromium keeps to it: a script that came into the page all the same does not run.
    browser.open(address(exporter))
    browser.run("""
        const script = document.createElement("script");
        script.textContent = "document.title = 'x'";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src=/-/healthy onerror=document.title='x'>");
    """)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert browser.title == TITLE


def test_the_page_sends_no_api_request_and_loads_nothing(
    browser: Browser, simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    for polls in (0, 12):
        for _ in range(3):
            browser.open(address(exporter))
        assert simulator.requests.count() == polls
        assert browser.run("return performance.getEntriesByType('resource').length") == 0
        exporter.scrape()
    assert exporter.request("/", "HEAD").status == 200
    assert simulator.requests.count() == 24


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, SMALL_PHONE], ids=["desktop", "phone"])
def test_the_page_is_readable_light_and_dark_on_a_desktop_and_a_phone(
    size: tuple[int, int],
    scheme: str,
    browser: Browser,
    busy: Exporter,
    save_screenshot: Callable[[str], None],
) -> None:
    phone = size == SMALL_PHONE
    browser.show_as(*size, scheme, phone=phone)
    browser.open(address(busy))
    save_screenshot(f"{scheme}-{size[0]}")
    assert browser.run("return window.innerWidth") == size[0]
    assert not scrolls_sideways(browser)
    assert browser.run("return matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
    assert min(contrasts(browser).values()) >= 4.5, contrasts(browser)
    sizes = "[...document.querySelectorAll('td, p, a')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert browser.run(f"return Math.min(...{sizes})") >= 14


def test_a_page_without_a_poll_yet_is_readable_on_a_phone(
    browser: Browser, simulator: Simulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    browser.show_as(*PHONE, phone=True)
    browser.open(address(exporter))
    assert not scrolls_sideways(browser)
    assert "not polled yet" in browser.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_no_violation_of_accessibility_rules(
    size: tuple[int, int], scheme: str, browser: Browser, troubled: Exporter, axe: str
) -> None:
    browser.show_as(*size, scheme, phone=size == PHONE)
    browser.open(address(troubled))
    browser.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    assert "The last reload failed" in browser.text
    assert browser.check_accessibility(axe) == []
    browser.run("document.getElementById('filter').labels[0].firstChild.remove()")
    assert [problem.partition(":")[0] for problem in browser.check_accessibility(axe)] == ["label"]


def test_rows_are_sorted_and_filtered_with_the_keyboard(
    browser: Browser, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(named(simulator, ("b", "a", "c")))
    exporter.scrape()
    browser.open(address(exporter))
    assert browser.run(f"return {NAMES}") == ["b/all", "b/voice", "a/all", "a/voice", "c/all", "c/voice"]

    browser.run("document.getElementById('filter').focus()")
    browser.press(TAB, TAB, ENTER)
    assert browser.run("return document.activeElement.innerText") == "Workspace"
    assert browser.run("return document.activeElement.parentElement.ariaSort") == "ascending"
    assert browser.run(f"return {NAMES}") == ["a/all", "a/voice", "b/all", "b/voice", "c/all", "c/voice"]
    browser.press(ENTER)
    assert browser.run("return document.activeElement.parentElement.ariaSort") == "descending"
    assert browser.run(f"return {NAMES}[0]") == "c/all"

    browser.press(TAB, TAB, TAB, TAB, ENTER)
    assert browser.run("return document.activeElement.innerText") == "Created (15m)"
    created = f"{ROWS}.map(row => parseFloat(row.cells[4].innerText.replaceAll(',', '')))"
    counts: list[float] = browser.run(f"return {created}")
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) > 1

    browser.run("document.getElementById('filter').focus()")
    browser.press(*"B voi")
    assert browser.run(f"return {NAMES}") == ["b/voice"]
    assert "1 of 6 targets" in browser.text


def test_a_phone_shows_twelve_targets_on_two_screens_and_sorts_them(
    browser: Browser,
    simulator: FaultySimulator,
    start_exporter: StartExporter,
    save_screenshot: Callable[[str], None],
) -> None:
    config = simulated(simulator)
    for target in config["targets"]:
        target |= {"channels": ["all", "voice", "chat", "sms"], "statistics": ["workers", "realtime"]}
    exporter = start_exporter(config)
    exporter.scrape()
    browser.show_as(*PHONE, phone=True)
    browser.open(address(exporter))
    save_screenshot("phone-12")
    assert browser.run(f"return {ROWS}.length") == 12
    assert browser.run(f"return scrollY + {ROWS}.pop().getBoundingClientRect().bottom") <= 2 * PHONE[1]
    browser.run("""
        const order = document.getElementById("order");
        order.value = [...order.options].find(option => option.text === "Channel").value;
        order.dispatchEvent(new Event("change"));
    """)
    assert browser.run(f"return {NAMES}.map(name => name.split('/')[1])") == [
        channel for channel in ("all", "chat", "sms", "voice") for _ in range(3)
    ]


def test_the_page_is_complete_without_scripts(
    browser: Browser, simulator: FaultySimulator, start_exporter: StartExporter
) -> None:
    exporter = start_exporter(simulated(simulator))
    exporter.scrape()
    browser.allow_scripts(allowed=False)
    try:
        browser.open(address(exporter))
        text = browser.text
    finally:
        browser.allow_scripts(allowed=True)
    assert "6 of 6 targets up" in text
    assert "Created (15m)" in text
    assert "Filter" not in text


def test_a_failed_poll_is_found_from_its_target_with_what_support_asks_for(
    browser: Browser,
    simulator: FaultySimulator,
    start_exporter: StartExporter,
    save_screenshot: Callable[[str], None],
) -> None:
    exporter = start_exporter(simulated(simulator, attempts=1))
    ill = simulator.centre.workspaces[1]
    simulator.faults.set(ill.sid, Fault.status(401))
    for _ in range(11):
        exporter.scrape()
    simulator.faults.clear()
    failures = json.loads(exporter.request("/api/v1/failures").text)["failures"]
    assert len(failures) == 40, "20 of each of its channels"
    assert {failure["workspace"] for failure in failures} == {ill.friendly_name}
    assert {(failure["reason"], failure["status"], failure["code"]) for failure in failures} == {
        ("auth", 401, 20003)
    }
    browser.open(address(exporter))
    assert failures[0]["request_id"] not in browser.text
    browser.click("tbody tr:first-child a.down")
    assert failures[0]["request_id"] in browser.text
    assert browser.text.count("RQ") == 20
    save_screenshot("failures")
    assert exporter.request("/-/reload", "POST").status == 200
    assert json.loads(exporter.request("/api/v1/failures").text)["failures"] == failures


@pytest.mark.parametrize("flags", [[], ["--web.disable-trends"]], ids=["by default", "disabled"])
def test_a_trend_has_a_point_for_each_minute_unless_trends_are_disabled(
    flags: list[str],
    program: Callable[[str, str], str],
    centre: ContactCentre,
    start_exporter: StartExporter,
    tmp_path: Path,
) -> None:
    noon = datetime(2026, 11, 25, 12, tzinfo=UTC)
    clock = FakedClock(noon, program("faketime", "faketime"), tmp_path)
    with Simulator(centre, clock) as simulator:
        exporter = start_exporter(simulated(simulator), flags, clock.environment)
        for minute in range(3):
            clock.set(noon + timedelta(minutes=minute))
            exporter.scrape()
        trends = re.findall(
            '<svg[^>]*><title>.*?</title><path d="([^"]*)"/></svg>', exporter.request("/").text
        )
    assert len(trends) == (0 if flags else 12)
    assert all(trend.startswith("M57 ") for trend in trends)


def test_the_demo_says_that_it_is_one(browser: Browser, demo: Exporter) -> None:
    browser.open(address(demo))
    assert "DEMO Simulated statistics, scenario calm. Nothing here is from Twilio." in browser.text
