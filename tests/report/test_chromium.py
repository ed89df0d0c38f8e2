"""The page in a real browser: Chromium without a window."""

import json
import re
import shutil
import subprocess
from html import unescape

import pandas as pd
import pytest

from pyg_sea.report import write_report
from pyg_sea.runs import Run

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
WIDTHS = (360, 390, 1280)

pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f'none of {NAMES} is installed (chromium)'
)

# A window cannot be as narrow as a phone, a frame can.
FRAMES = """<!DOCTYPE html>
<body style="margin: 0">
{frames}
<pre id="found"></pre>
<script>
function look(frame) {{
  const view = frame.contentWindow, page = view.document;
  const root = page.documentElement;
  const boxes = (name) => [...page.querySelectorAll(name)]
    .filter((x) => x.checkVisibility())
    .map((x) => x.getBoundingClientRect());
  const inBox = (x) => x.closest('.scroll') && !x.matches('.scroll');
  return {{
    width: view.innerWidth,
    scrollWidth: root.scrollWidth,
    height: root.scrollHeight,
    loaded: view.performance.getEntriesByType('resource').length,
    pictures: boxes('svg').map((box) => [box.width, box.height]),
    bars: boxes('.track').map((box) => [box.width, box.height]),
    outside: [...page.body.querySelectorAll('*')]
      .filter((x) => x.checkVisibility() && !inBox(x))
      .filter((x) => x.getBoundingClientRect().right > root.clientWidth + 1)
      .map((x) => x.outerHTML.slice(0, 80)),
    clipped: [...page.querySelectorAll('svg text')]
      .filter((x) => {{
        const own = x.getBoundingClientRect();
        const all = x.closest('svg').getBoundingClientRect();
        return own.left < all.left || own.right > all.right;
      }})
      .map((x) => x.textContent),
    scripts: page.scripts.length,
    lost: [...page.querySelectorAll('a[href^="#"]')]
      .map((a) => a.getAttribute('href').slice(1))
      .filter((id) => !page.getElementById(id)),
    background: view.getComputedStyle(page.body).backgroundColor,
  }};
}}
onload = () => {{
  document.querySelectorAll('iframe').forEach((frame) =>
    frame.contentDocument.querySelectorAll('{opened}')
      .forEach((x) => x.setAttribute('open', '')));
  const found = [...document.querySelectorAll('iframe')].map(look);
  document.getElementById('found').textContent = JSON.stringify(found);
}};
</script>
"""


def browse(page, *args, widths=WIDTHS, height=900, opened='details'):
    """Loads the page into frames; returns what the browser printed."""
    frames = '\n'.join(
        f'<iframe src="{page.name}" style="display: block; border: 0; '
        f'width: {width}px; height: {height}px"></iframe>'
        for width in widths
    )
    wrapper = page.with_name('frames.html')
    wrapper.write_text(FRAMES.format(frames=frames, opened=opened))
    return subprocess.run(
        [
            *(BROWSER, '--headless=new', '--no-sandbox', '--disable-gpu'),
            *('--hide-scrollbars', '--enable-logging=stderr'),
            # Frames of files may not be looked into otherwise.
            '--allow-file-access-from-files',
            '--host-resolver-rules=MAP * ~NOTFOUND',
            f'--user-data-dir={page.parent / "profile"}',
            *(*args, wrapper.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def look(page, *args, **kwargs):
    """What the frames report, after the console was found to be silent."""
    done = browse(
        page, '--window-size=1400,900', '--dump-dom', *args, **kwargs
    )
    assert 'CONSOLE' not in done.stderr
    [found] = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    return json.loads(unescape(found))


@pytest.fixture(scope='module')
def folder(sea_run, vbpr_run, tmp_path_factory):
    root = tmp_path_factory.mktemp('pages')
    write_report(sea_run, root / 'sea.html')
    write_report(vbpr_run, root / 'vbpr.html')
    # Terms as far from 1, and from each other, as they come.
    copy = shutil.copytree(vbpr_run.path, root / 'run')
    history = pd.DataFrame({'epoch': [0, 999], 'train/loss': [1.2e7, 4.1e7]})
    for power in range(-12, 13):
        for low, high in ((1, 1.00012345), (-12.3, 5), (0.011, 99)):
            name = f'train/{low} to {high}, 1e{power}'
            history[name] = [low * 10.0**power, high * 10.0**power]
    history.to_csv(copy / 'metrics.csv', index=False)
    write_report(Run.open(copy), root / 'wide_range.html', num_users=0)
    return root


@pytest.mark.parametrize('name', ['sea', 'vbpr'])
def test_page_fits_every_width(folder, name):
    found = look(folder / f'{name}.html')
    assert [page['width'] for page in found] == list(WIDTHS)
    for page in found:
        assert page['scrollWidth'] <= page['width'], page['outside']
        assert page['outside'] == []
        assert page['loaded'] == page['scripts'] == 0
        assert page['lost'] == []
        pictures = page['pictures']
        assert len(pictures) >= (12 if name == 'sea' else 8)
        assert all(w > 100 and h > 100 for w, h in pictures)
        # All users and items are open: each has six bars.
        assert len(page['bars']) == (600 if name == 'sea' else 0)
        assert all(w > 40 and h > 8 for w, h in page['bars'])


@pytest.mark.parametrize('name', ['sea', 'vbpr', 'wide_range'])
def test_no_label_of_a_chart_is_clipped(folder, name):
    for page in look(folder / f'{name}.html'):
        assert page['clipped'] == []


def test_console_would_tell(folder):
    # That silence means something: here the page asks for what is not there.
    text = (folder / 'sea.html').read_text(encoding='utf-8')
    page = folder / 'loud.html'
    page.write_text(text.replace('</body>', '<img src="lost.png"></body>'))
    done = browse(page, '--window-size=1400,900', '--dump-dom')
    assert 'CONSOLE' in done.stderr
    assert 'Content Security Policy' in done.stderr


def test_what_is_too_wide_would_be_seen(folder):
    text = (folder / 'sea.html').read_text(encoding='utf-8')
    page = folder / 'wide.html'
    wide = '<div style="width: 500px">wide</div></main>'
    page.write_text(text.replace('</main>', wide))
    narrow, _, desktop = look(page)
    assert narrow['scrollWidth'] > 500
    assert 'wide' in narrow['outside'][0]
    assert desktop['outside'] == []


def test_dark_scheme(folder):
    page = folder / 'sea.html'
    light, dark = (
        look(page, f'--blink-settings=preferredColorScheme={scheme}')[0]
        for scheme in (1, 0)
    )
    assert light['background'] == 'rgb(252, 252, 251)'
    assert dark['background'] == 'rgb(20, 23, 27)'


@pytest.mark.parametrize('width', [390, 1280])
def test_screenshot(folder, width):
    image = pytest.importorskip('PIL.Image', reason='reads the picture')
    page, out = folder / 'sea.html', folder / f'{width}.png'
    # No user is opened that the page does not open itself.
    frame = {'widths': [width], 'opened': 'none'}
    [found] = look(page, **frame)
    height = found['height']
    browse(
        page,
        f'--window-size=1400,{height}',
        f'--screenshot={out}',
        height=height,
        **frame,
    )
    with image.open(out) as picture:
        assert picture.size == (1400, height)
        seen = picture.convert('RGB').crop((0, 0, width, height))
    # Something is drawn in every part, down to the settings.
    step = 400
    for top in range(0, height - step, step):
        part = seen.crop((0, top, width, top + step))
        assert len(part.getcolors(2**18)) > 20
