"""The course as a reader meets it: a notebook in JupyterLab in headless Chromium, its slider moved,
bertviz's tokens hovered.

Nothing may leave loopback, and no error of ours may stand in the console. What was seen at
1280 x 800 is kept in runs/screenshots/. The notebook runs in a temporary copy, so the checkout's is
never written to. It is one, the one with views and sliders: what notebooks print, nbval compares.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import ROOT

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium: apt-get install chromium")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="needs playwright: pip install -e '.[tests]'"
)

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
SCREENSHOTS = ROOT / "runs/screenshots"
SECONDS = 240  # for a notebook to run, on a busy machine
NOTEBOOK = "08_attention_maps"
# It asks for an extension nobody installed.
JUPYTERS_OWN = r"404 \(Not Found\) http://127\.0\.0\.1:\d+/lsp/status"


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def watched(chromium):
    """A page, and what it did wrong so far: left loopback, or failed in the console."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page, wrong = context.new_page(), []

    def leaves(url):
        return urlsplit(url).hostname not in (None, "127.0.0.1", "localhost")

    def note(url):
        if leaves(url):
            wrong.append(f"leaves loopback: {url}")

    def judge(message):
        text = f"{message.text} {message.location['url']}"
        if message.type == "error" and not re.search(JUPYTERS_OWN, text):
            wrong.append(text)

    context.route(leaves, lambda route: route.abort("blockedbyclient"))
    page.on("request", lambda request: note(request.url))
    page.on("websocket", lambda websocket: note(websocket.url))
    page.on("console", judge)
    page.on("pageerror", lambda error: wrong.append(f"uncaught: {error}"))
    yield page, wrong
    context.close()


@pytest.fixture
def page(watched):
    """A page on which nothing may go wrong until the test ends."""
    page, wrong = watched
    yield page
    assert not wrong


def test_what_goes_wrong_is_seen(watched):
    page, wrong = watched
    page.set_content(
        "<img src='http://outside.example/a.png'><script>console.error('mine'); nothing()</script>"
    )
    assert [
        bool(re.search(pattern, "\n".join(wrong)))
        for pattern in (
            "leaves loopback: http://outside.example/a.png",
            "(?m)^mine",
            "uncaught: nothing is not defined",
        )
    ] == [True] * 3


# -- the views alone


@pytest.fixture(scope="module")
def maps():
    from minialbert.lab.attention import Maps

    weights = np.random.default_rng(0).gamma(0.5, size=(2, 2, 3, 6, 6))
    student, teacher = weights / weights.sum(-1, keepdims=True)
    tokens = ["[CLS]", "a", "small", "green", "bird", "[SEP]"]
    return Maps(tokens, np.isin(range(6), [0, 5]), student, teacher, [2, 4])


def visible_lines(frame, side):
    return frame.locator(f"#{side}").evaluate(
        "root => [...root.querySelectorAll('line')]"
        ".filter(line => getComputedStyle(line).visibility === 'visible').length"
    )


def token(frame, side, name):
    return frame.locator(f"#{side} #left > g:last-child > g", has_text=name)


def test_head_views_act_together(page, maps):
    from minialbert.lab.attention import head_view

    page.set_content(head_view(maps).page)
    assert visible_lines(page, "student") == visible_lines(page, "teacher") == 3 * 6 * 6
    token(page, "student", "green").hover()
    assert visible_lines(page, "student") == visible_lines(page, "teacher") == 3 * 6
    token(page, "student", "green").click()
    token(page, "teacher", "bird").click()
    page.mouse.move(600, 700)
    assert visible_lines(page, "student") == visible_lines(page, "teacher") == 2 * 3 * 6, (
        "two tokens are kept"
    )
    page.locator("#student #layer").select_option("2")
    assert page.locator("#teacher #layer").input_value() == "4", (
        "the layer that iteration 2 is compared with"
    )
    assert visible_lines(page, "teacher") == 2 * 3 * 6
    token(page, "student", "green").click()
    token(page, "student", "bird").click()
    page.mouse.move(600, 700)
    assert visible_lines(page, "student") == 3 * 6 * 6
    page.locator("#teacher svg > g > rect").nth(1).dblclick()
    shown = page.locator("#student").evaluate(
        "root => [...root.querySelectorAll('line')]"
        ".filter(line => +line.getAttribute('stroke-opacity') > 0).length"
    )
    assert shown == np.count_nonzero(maps.student[1, 1].round(3)), (
        "the student shows that head alone, too"
    )


def test_model_views_act_together(page, maps):
    from minialbert.lab.attention import model_view

    page.set_content(model_view(maps).page)
    page.locator("#teacher rect.attn_background").nth(4).locator("xpath=../*[last()]").click()
    headings = page.locator("text.detail").all_text_contents()
    assert headings == ["Iteration 2, Head 2", "Layer 4, Head 2"]
    box = page.locator("#teacher rect.detail").bounding_box()
    pane = page.locator("section").nth(1).bounding_box()
    assert pane["x"] <= box["x"] and box["x"] + box["width"] <= pane["x"] + pane["width"], (
        "the detail is cut off"
    )


# -- the notebooks in JupyterLab


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the notebooks, with the checkout's student, or an undistilled one."""
    folder = tmp_path_factory.mktemp("course")
    shutil.copytree(
        ROOT / "notebooks",
        folder / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints"),
    )
    (folder / "figures").symlink_to(ROOT / "figures")
    student = folder / "runs/07_distil/student"
    student.parent.mkdir(parents=True)
    made = [ROOT / "runs" / name / "student" for name in ("07_distil", "lab")]
    if distilled := next((path for path in made if path.exists()), None):
        student.symlink_to(distilled)
    else:
        from minialbert import starting

        teacher, tokenizer = starting.load_teacher("all-MiniLM-L6-v2")
        choices = {"num_hidden_layers": 3, "tie_word_embeddings": True}
        config = starting.student_config(teacher.config, **choices)
        starting.start_student(config, teacher).save_pretrained(student)
        tokenizer.save_pretrained(student)
    return folder


def wait_for(server, url, log):
    for _ in range(600):
        try:
            return urllib.request.urlopen(url, timeout=5)
        except (urllib.error.URLError, TimeoutError):
            assert server.poll() is None, f"JupyterLab did not start:\n{log.read_text()[-3000:]}"
            time.sleep(0.1)
    raise AssertionError(f"JupyterLab does not answer:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def jupyter(course):
    """JupyterLab on loopback, with nobody's settings; yields the notebook's address."""
    own, token = course / "jupyter", secrets.token_hex(16)
    settings = {
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
        "notebook-extension/tracker": '{"windowingMode": "none"}',
    }  # draw cells that are out of sight, too
    for name, content in settings.items():
        file = own / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "MPLBACKEND" and not name.startswith("JUPYTER")
    }
    environment |= {
        "JUPYTER_CONFIG_DIR": f"{own}/config",
        "JUPYTER_DATA_DIR": f"{own}/data",
        "JUPYTER_RUNTIME_DIR": f"{own}/runtime",
        "JUPYTERLAB_SETTINGS_DIR": f"{own}/settings",
        "JUPYTERLAB_WORKSPACES_DIR": f"{own}/workspaces",
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_PATH": f"{sys.prefix}/share/jupyter",
        "JUPYTER_TOKEN": token,
        "IPYTHONDIR": f"{own}/ipython",
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={course}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]
    log = own / "log.txt"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env=environment, cwd=course, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            wait_for(server, f"http://127.0.0.1:{port}/api/status?token={token}", log)
            path = f"lab/tree/notebooks/{NOTEBOOK}.ipynb"
            yield f"http://127.0.0.1:{port}/{path}?reset&token={token}"
        finally:
            server.terminate()
            server.wait(30)


RUN_ALL = """async seconds => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.sessionContext.ready;
  const late = new Promise((_, reject) =>
    setTimeout(() => reject('still running'), seconds * 1000));
  await Promise.race([window.jupyterapp.commands.execute('notebook:run-all-cells'), late]);
  return panel.content.model.toJSON();
}"""


def run_all(page, address):
    """Opens a notebook and runs it; returns it as it then is. A cell that raised fails."""
    page.set_default_timeout(SECONDS * 1000)
    page.goto(address)
    page.wait_for_function(
        "() => window.jupyterapp?.shell.currentWidget?.content?.model?.cells.length > 0"
    )
    notebook = page.evaluate(RUN_ALL, SECONDS)
    page.set_default_timeout(20_000)
    for cell in notebook["cells"]:
        raised = [output for output in cell.get("outputs", ()) if output["output_type"] == "error"]
        if "raises-exception" not in cell["metadata"].get("tags", ()):
            assert not raised, (
                f"{raised[0]['ename']}: {raised[0]['evalue']} in\n{cell['source'][:300]}"
            )
    return notebook


def screenshot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def move_each_slider(page, name):
    """Moves every slider that has a picture by a key, sees the picture change; returns how many."""
    moved = 0
    for panel in page.locator(".jp-OutputArea-output .explore").all():
        for slider in panel.locator("[role=slider]").all():
            picture = panel.locator("img.widget-image")
            if not picture.count():
                continue
            panel.evaluate("panel => panel.scrollIntoView({block: 'center'})")
            before = picture.first.get_attribute("src")
            at_end = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
            slider.press("ArrowLeft" if at_end else "ArrowRight")
            playwright.expect(picture.first).not_to_have_attribute("src", before, timeout=20_000)
            moved += 1
            screenshot(page, f"{name}-slider{moved}")
    return moved


def test_notebook_in_jupyterlab(page, jupyter):
    run_all(page, jupyter)
    screenshot(page, NOTEBOOK)
    assert move_each_slider(page, NOTEBOOK), "no slider that moves a picture"
    look_at_the_views(page, NOTEBOOK)


def look_at_the_views(page, name):
    """Hovers a token in each head view and opens a head in each model view."""
    frames = page.locator("iframe[srcdoc]")
    assert frames.count() >= 2, "a head view and a model view"
    for number, element in enumerate(frames.all(), 1):
        element.evaluate("frame => frame.scrollIntoView({block: 'center'})")
        frame, side = element.content_frame, "student"
        frame.locator("#teacher line").first.wait_for(state="attached")
        every = visible_lines(frame, side)
        if "head view" in element.get_attribute("title"):
            frame.locator("#student #left > g:last-child > g").nth(1).hover()
            assert 0 < visible_lines(frame, side) < every
        else:
            frame.locator("#student rect.attn_background").first.locator(
                "xpath=../*[last()]"
            ).click()
            assert visible_lines(frame, side) > every
        screenshot(page, f"{name}-view{number}")
