"""The page in a real browser, opened from the disk: what a reader sees, and what may not happen."""

import json
import re
import shlex
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from galleries import do_without, read_core, serve

from galfig.cli import main
from galfig.figures.metadata import read_record
from galfig.gallery.main import make_gallery
from galfig.store.reader import open_store
from galfig.store.selection import Query, select_galaxies

# Each test opens pages in a browser, which takes a second or two.
pytestmark = pytest.mark.slow

CELLS = "[role=gridcell]"
DESK = {"viewport": {"width": 1200, "height": 800}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


@contextmanager
def open_page(chromium, where, *, fragment="", **options):
    """Open a gallery, wait until it is drawn, and see that nothing went wrong by the end."""
    context = chromium.new_context(**{**DESK, **options})
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    address = where if isinstance(where, str) else where.as_uri()
    page.goto(f"{address}/index.html{fragment}")
    wait_for(page, "document.querySelector('[role=gridcell]') !== null")
    try:
        yield page
        page.wait_for_timeout(50)
        assert said == []
        origin = re.match(r"\w+://[^/]*/", address + "/")[0]
        assert [url for url in asked if not url.startswith((origin, "blob:"))] == []
    finally:
        context.close()


def wait_for(page, condition, seconds=20):
    """Wait until an expression holds. That of playwright would need eval, which pages forbid."""
    for _ in range(50 * seconds):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"waited in vain for {condition}")


def wait_for_drawing(page, slot=""):
    """Wait until all galaxies in sight are drawn, as what is asked for."""
    canvases = f"[...document.querySelectorAll('{CELLS} canvas')]"
    wait_for(page, f"{canvases}.every(({{dataset}}) => dataset.drawn?.endsWith('{slot}'))")


def count(page):
    """Return how many galaxies the page says it shows."""
    return int(page.inner_text("#count").split(" of ")[0].replace("\N{NARROW NO-BREAK SPACE}", ""))


def list_shown(page):
    """Return the identifiers of all galaxies that are shown, in order."""
    return page.evaluate(
        "[...state.visible].map((galaxy) => galfigGallery.values('objid')[galaxy])"
    )


def list_cells(page):
    """Return what a reader of the screen hears of the galaxies in sight."""
    cells = page.locator(CELLS)
    return [cells.nth(k).get_attribute("aria-label") for k in range(cells.count())]


def fill(page, label, value):
    page.get_by_label(label, exact=True).fill(str(value))
    page.keyboard.press("Tab")


@pytest.fixture
def core(gallery):
    return read_core(gallery)


def test_it_opens_from_the_disk(chromium, gallery, core):
    """All galaxies are counted, those in sight are drawn, and each says what it is."""
    meta, columns = core
    with open_page(chromium, gallery) as page:
        assert count(page) == meta["n"]
        assert list_shown(page) == columns["objid"]
        wait_for_drawing(page)
        first = list_cells(page)[0]
        names = meta["classes"]
        assert f"galaxy {columns['objid'][0]}," in first
        assert f"predicted {names[columns['predicted'][0]]}, p " in first
        truth = columns["true"][0]
        assert f"true class {names[truth] if truth >= 0 else 'unknown'}" in first
        assert page.title() == f"{meta['store']}: galfig gallery"


def test_few_of_many_galaxies_are_in_the_page(chromium, gallery):
    """Only the rows in sight are; the last galaxy is there once it is scrolled to."""
    with open_page(chromium, gallery, viewport={"width": 700, "height": 500}) as page:
        assert page.locator(CELLS).count() < 60
        last = list_shown(page)[-1]
        page.evaluate("grid.element.scrollTop = grid.element.scrollHeight")
        wait_for(page, f"document.querySelector('[aria-label*=\"{last}\"]') !== null")
        assert page.locator(CELLS).count() < 60
        assert int(page.get_attribute("#grid", "aria-rowcount")) > 5


def test_each_thumbnail_is_that_of_its_galaxy(chromium, gallery, core):
    """In another order than that of the sheets, by the pixels on the canvas."""
    from PIL import Image

    meta, _ = core
    sheets = meta["sheets"]
    with serve(gallery) as address, open_page(chromium, address, fragment="#sort=-loss") as page:
        page.select_option("#show", "cutout")
        wait_for_drawing(page, "cutout")
        drawn = page.evaluate(
            """[...document.querySelectorAll('[role=gridcell]')].slice(0, 12).map((cell) => {
              const canvas = cell.firstChild;
              const { width, height } = canvas;
              const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
              return [Number(cell.dataset.galaxy), [...data]];
            })"""
        )
    assert [galaxy for galaxy, _ in drawn] != sorted(galaxy for galaxy, _ in drawn)
    for galaxy, pixels in drawn:
        sheet, within = divmod(galaxy, sheets["each"])
        down, across = divmod(within, sheets["across"])
        with Image.open(gallery / "sheets" / f"{sheet:05d}-cutout.webp") as image:
            left, top = across * sheets["pitch"], down * sheets["pitch"]
            box = (left, top, left + sheets["side"], top + sheets["side"])
            expected = np.asarray(image.convert("RGB").crop(box), int)
        found = np.reshape(pixels, (sheets["side"], sheets["side"], 4))[..., :3]
        assert np.abs(found - expected).max() <= 2


def test_filters_agree_with_the_store(chromium, gallery, core):
    """Classes, right and wrong, ranges of p and of the catalog, together."""
    meta, columns = core
    p, predicted, correct = columns["p"], columns["predicted"], columns["correct"]
    with open_page(chromium, gallery) as page:
        fill(page, "p of the predicted class from", 0.8)
        assert count(page) == (p >= 0.8).sum()
        fill(page, "p of the predicted class to", 0.95)
        inside = (p >= 0.8) & (p <= 0.95)
        assert count(page) == inside.sum()
        box = page.get_by_role("group", name="predicted class").get_by_label(meta["classes"][1])
        box.check()
        assert count(page) == (inside & (predicted == 1)).sum()
        page.get_by_role("group", name="right or wrong").get_by_label("wrong").check()
        expected = inside & (predicted == 1) & (correct == 0)
        assert count(page) == expected.sum()
        assert list_shown(page) == [columns["objid"][k] for k in np.flatnonzero(expected)]
        page.get_by_role("button", name="Clear all").click()
        assert count(page) == meta["n"]
        assert not box.is_checked()


def test_any_column_of_the_catalog_filters(chromium, gallery, gallery_store):
    """Numbers, categories and text; a column is loaded when it is asked for."""
    with open_store(gallery_store) as store, open_page(chromium, gallery) as page:
        catalog = store.catalog
        page.select_option("#add-filter", label="mass")
        fill(page, "mass from", 10)
        assert count(page) == (catalog["mass"] >= 10).sum()
        page.select_option("#add-filter", label="kind")
        page.get_by_role("group", name="kind").get_by_label("Irr <b>&").check()
        assert count(page) == ((catalog["mass"] >= 10) & (catalog["kind"] == "Irr <b>&")).sum()
        page.get_by_role("button", name="Clear all").click()
        page.select_option("#add-filter", label="specobjid")
        wanted = str(catalog["specobjid"].iloc[17])
        page.get_by_label("specobjid contains").fill(wanted)
        assert list_shown(page) == [store.objids(17)]


def test_a_range_is_drawn_on_a_histogram(chromium, gallery, core):
    """The fields, the count and the address follow; a click removes the range."""
    _, columns = core
    with open_page(chromium, gallery) as page:
        box = (
            page.locator("details", has_text="p of the predicted class")
            .locator("canvas")
            .bounding_box()
        )
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + 0.5 * box["width"], middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 0.7 * box["width"], middle, steps=4)
        page.mouse.move(box["x"] + 0.75 * box["width"], middle)
        page.mouse.up()
        low, high = (
            float(page.get_by_label(f"p of the predicted class {end}", exact=True).input_value())
            for end in ("from", "to")
        )
        p = columns["p"].astype(float)
        assert low == pytest.approx(p.min() + 0.5 * np.ptp(p), abs=0.03 * np.ptp(p))
        assert count(page) == ((p >= low) & (p <= high)).sum()
        assert "f%3Ap=" in page.url
        page.mouse.click(box["x"] + 0.1 * box["width"], middle)
        assert count(page) == len(p)


def test_order_agrees_with_the_store(chromium, gallery, core):
    """By loss and p from the largest; unknown values come last in either direction."""
    _, columns = core
    objid, loss = np.array(columns["objid"]), columns["loss"]
    known = np.isfinite(loss)
    assert 0 < (~known).sum() < len(loss)
    with open_page(chromium, gallery) as page:
        page.select_option("#sort", "loss")
        order = np.lexsort((np.arange(len(loss)), -loss))
        assert list_shown(page) == objid[order].tolist()
        page.get_by_role("button", name="Descending").click()
        shown = list_shown(page)
        assert (
            shown[: known.sum()] == objid[np.argsort(loss, kind="stable")][: known.sum()].tolist()
        )
        assert set(shown[known.sum() :]) == set(objid[~known])
        page.select_option("#sort", label="note")
        wait_for(page, "state.sort.id === 'catalog.note'")


def test_an_address_keeps_what_is_shown(chromium, gallery):
    """A link opens the same filters, order and maps; what it does not know is left out."""
    with open_page(chromium, gallery) as page:
        page.select_option("#show", "true")
        page.select_option("#sort", "p")
        page.select_option("#add-filter", label="mass")
        fill(page, "mass to", 10.5)
        wanted, fragment = list_shown(page), page.evaluate("location.hash")
    with open_page(chromium, gallery, fragment=fragment) as page:
        wait_for(page, "state.filters.size === 1")
        assert list_shown(page) == wanted
        assert page.input_value("#show") == "true"
        assert page.get_by_label("mass to", exact=True).input_value() == "10.5"
    odd = "#f%3Ap=%5B1&f%3Anobody=1&sort=-nothing&f%3Atrue=%5B%22x%22%5D&%E0%A4%A=1&show=x"
    with open_page(chromium, gallery, fragment=odd) as page:
        assert count(page) == len(wanted) or count(page) > len(wanted)
        assert page.evaluate("state.filters.size") == 0
        assert page.input_value("#show") == "predicted"


def test_maps_change_by_key_and_under_the_pointer(chromium, gallery):
    """Digits and letters for all galaxies; the pointer goes through what there is of one."""
    with open_page(chromium, gallery) as page:
        cell = page.locator(CELLS).first
        cell.focus()
        for key, slot in (("c", "cutout"), ("e", "evidence"), ("m", "map-0")):
            page.keyboard.press(key)
            wait_for_drawing(page, slot)
        page.keyboard.press("2")
        assert page.input_value("#show") == "class-1"
        box = cell.bounding_box()
        seen = []
        for share in (0.1, 0.4, 0.6, 0.9):
            page.mouse.move(box["x"] + share * box["width"], box["y"] + 40)
            seen.append(cell.locator(".tag").inner_text())
        assert seen[0] == "cutout"
        assert sorted(seen[1:3]) == ["map of high-metallicity", "map of low-metallicity"]
        assert seen[3] == "evidence for high-metallicity"
        page.mouse.move(1, 1)
        assert cell.locator(".tag").is_hidden()


def test_keys_move_through_the_grid(chromium, gallery):
    """One galaxy has the focus, which is in sight; arrows stop at the ends."""
    with open_page(chromium, gallery) as page:
        assert page.locator(f'{CELLS}[tabindex="0"]').count() == 1
        page.locator(f'{CELLS}[tabindex="0"]').focus()
        across = page.evaluate("grid.nAcross")

        def find():
            assert page.locator(f'{CELLS}[tabindex="0"]').count() == 1
            return page.evaluate("Number(document.activeElement.dataset.place)")

        for key, place in (
            *(("ArrowRight", 1), ("ArrowDown", 1 + across), ("ArrowLeft", across)),
            *(("ArrowUp", 0), ("ArrowLeft", 0), ("ArrowUp", 0), ("End", across - 1)),
            *(("Home", 0), ("Control+End", 149), ("ArrowRight", 149), ("Control+Home", 0)),
        ):
            page.keyboard.press(key)
            assert find() == place, key
        page.keyboard.press("PageDown")
        place = find()
        assert place > across
        box = page.locator(f'[data-place="{place}"]').bounding_box()
        grid = page.locator("#grid").bounding_box()
        assert grid["y"] <= box["y"]
        assert box["y"] + box["height"] <= grid["y"] + grid["height"] + 1
        page.keyboard.press("?")
        assert page.get_by_role("dialog", name="Keys").is_visible()
        page.keyboard.press("Escape")
        assert page.get_by_role("dialog").count() == 0


def test_a_galaxy_has_a_view_of_its_own(chromium, gallery, core, gallery_store):
    """Its maps, numbers and catalog; the arrows go on in the order shown, Escape goes back."""
    meta, columns = core
    with open_store(gallery_store) as store, open_page(chromium, gallery) as page:
        page.locator(CELLS).nth(3).focus()
        page.keyboard.press("Enter")
        dialog = page.get_by_role("dialog")
        assert dialog.get_by_role("heading", level=2).inner_text() == columns["objid"][3]
        pictures = dialog.get_by_role("img", name=re.compile(columns["objid"][3]))
        assert pictures.count() == len(meta["sheets"]["slots"]) == 4
        text = dialog.inner_text()
        row = list(store.objid).index(columns["objid"][3])
        for value in (store.catalog["count"].iloc[row], store.catalog["specobjid"].iloc[row]):
            assert str(value) in text
        assert repr(float(store.losses[row])) in text or not np.isfinite(store.losses[row])
        assert "A simulated galaxy, which is nowhere on the sky." in text
        page.keyboard.press("ArrowRight")
        assert dialog.get_by_role("heading", level=2).inner_text() == columns["objid"][4]
        status = "document.querySelector('dialog [role=status]').textContent"
        wait_for(page, f"{status}.startsWith('galaxy {columns['objid'][4]},')")
        page.keyboard.press("p")
        assert dialog.get_by_role("button", name="Picked").get_attribute("aria-pressed") == "true"
        page.keyboard.press("Escape")
        assert page.get_by_role("dialog").count() == 0
        # The browser gives the focus back where it was; the page moves it on a little later.
        wait_for(page, "Number(document.activeElement.dataset.place) === 4")
        assert page.inner_text("#n-picks") == "1"


def test_links_lead_to_the_sky(chromium, make_store, tmp_path):
    """By ra and dec of a real galaxy, in a page of their own that learns nothing of this one."""
    position = {"ra": np.linspace(150, 151, 12), "dec": np.linspace(-1, 1, 12)}
    position["dec"][-1] = np.nan
    path = make_store(catalog=position, attrs={"simulated": False})
    make_gallery(path, tmp_path / "g", slice(None))
    with open_page(chromium, tmp_path / "g") as page:
        page.locator(CELLS).first.click()
        links = page.get_by_role("dialog").get_by_role("link")
        wait_for(page, "document.querySelectorAll('dialog a').length === 2")
        for number, host in enumerate(("skyserver.sdss.org", "www.legacysurvey.org")):
            href = links.nth(number).get_attribute("href")
            assert href.startswith(f"https://{host}/")
            assert "ra=150&dec=-1" in href
            assert links.nth(number).get_attribute("rel") == "noopener noreferrer"
        page.keyboard.press("Escape")
        page.locator(CELLS).nth(11).click()
        wait_for(page, "document.querySelector('dialog .links').textContent !== ''")
        assert "not known" in page.inner_text("dialog .links")


def test_a_class_has_one_name(chromium, gallery, core):
    """Below thumbnails as in filters and in the head of the page."""
    meta, _ = core
    with open_page(chromium, gallery) as page:
        shown = page.locator(f"{CELLS} .caption .class").all_inner_texts()
        assert shown
        assert set(shown) <= set(meta["classes"])
        assert {"low-metallicity", "high-metallicity"} == set(meta["classes"])
        assert all(name in page.inner_text("header") for name in meta["classes"])


def test_picks_are_kept_copied_and_saved(
    chromium, gallery, core, gallery_store, tmp_path, monkeypatch
):
    """As files and words that galfig takes: the galaxies are the same, to the last digit."""
    _, columns = core
    wanted = [columns["objid"][k] for k in (0, 2, 1)]
    with open_page(chromium, gallery, accept_downloads=True) as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.locator(CELLS).first.focus()
        page.keyboard.press("p")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("p")
        page.locator(CELLS).nth(1).click(modifiers=["Control"])
        assert page.locator(f'{CELLS}[aria-selected="true"]').count() == 3
        page.reload()
        wait_for(page, "document.querySelector('[aria-selected=true]') !== null")
        page.get_by_role("button", name="Picks: 3").click()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Save picks.txt").click()
        waiting.value.save_as(tmp_path / "picks.txt")
        copied = {}
        for name in ("the command", "the identifiers", "for a manuscript"):
            page.get_by_role("button", name=f"Copy {name}").click()
            page.wait_for_timeout(50)
            copied[name] = page.evaluate("navigator.clipboard.readText()")
        page.get_by_role("button", name="Show only the picks").click()
        assert sorted(list_shown(page)) == sorted(wanted)
        page.get_by_role("button", name="Picks: 3").click()
        page.get_by_role("button", name="Forget all picks").click()
        assert page.inner_text("#n-picks") == "0"
    assert (tmp_path / "picks.txt").read_text().split() == wanted
    assert copied["the identifiers"].split() == wanted
    name = Path(gallery_store).name
    assert copied["the command"] == f"galfig render {name} --objid @picks.txt --out picked.pdf"
    shutil.copyfile(gallery_store, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(main, shlex.split(copied["the command"])[1:])
    assert found.exit_code == 0, found.output
    assert read_record(tmp_path / "picked.pdf").provenance["objid"] == wanted
    assert (tmp_path / "picks.txt").read_text().split() == wanted
    selection = json.loads(copied["for a manuscript"].partition("objids = ")[2].rstrip("} "))
    with open_store(gallery_store) as store:
        found = select_galaxies(store, Query(n=None, objids=tuple(selection)))
        assert store.objids(found.indices).tolist() == wanted


def test_the_selection_is_one_of_a_manuscript(chromium, gallery):
    """TOML reads it, whatever stands in an identifier."""
    import tomllib

    with open_page(chromium, gallery) as page:
        page.evaluate("""picks._ids.add('a"b\\\\c # é')""")
        words = page.evaluate("picks.writeSelection()")
    assert tomllib.loads(words) == {"selection": {"objids": ['a"b\\c # é']}}


def test_nothing_of_a_store_is_run(chromium, make_store, tmp_path):
    """Names of classes and columns, identifiers and cells of a stranger stay text."""
    attack = '</script><img src=x onerror=alert(1)><svg onload="alert(2)">'
    objid = np.array([f"{attack}{k}" for k in range(6)], dtype=object)
    path = make_store(
        "<b>maps&.h5",
        n=6,
        size=16,
        map_size=8,
        class_names=(attack, "' onclick='alert(3)"),
        objid=objid,
        catalog={attack: [attack] * 3 + ["x"] * 3, "javascript:alert(4)": np.arange(6.0)},
    )
    make_gallery(path, tmp_path / "g", slice(None))
    with open_page(chromium, tmp_path / "g") as page:
        assert attack in list_cells(page)[0]
        page.select_option("#add-filter", label=attack)
        page.get_by_role("group", name=attack).get_by_label(attack).check()
        assert count(page) == 3
        page.locator(CELLS).first.click()
        page.wait_for_timeout(100)
        assert attack in page.inner_text("dialog h2")
        page.keyboard.press("p")
        page.keyboard.press("Escape")
        for name in ("Picks", "How to read"):
            page.get_by_role("button", name=name).click()
            page.wait_for_timeout(50)
            page.keyboard.press("Escape")
        assert (
            page.evaluate(
                "document.querySelectorAll('img[onerror], svg, script:not([src])').length"
            )
            == 0
        )


def test_the_page_forbids_scripts_and_networks(chromium, gallery):
    """Even if something of a stranger came into it: by the policy in its head."""
    asked = []
    with serve(gallery, asked) as address:
        context = chromium.new_context(**DESK)
        page = context.new_page()
        page.goto(f"{gallery.as_uri()}/index.html")
        wait_for(page, "document.querySelector('[role=gridcell]') !== null")
        found = page.evaluate(
            """async (address) => {
              const tries = {
                fetch: () => fetch(address),
                markup: () => {
                  document.body.innerHTML = "<img src=x onerror='window.isRun = 1'>";
                },
                address: () => {
                  const script = document.createElement("script");
                  script.src = address;
                },
              };
              const stopped = [];
              for (const [name, act] of Object.entries(tries)) {
                try { await act(); } catch { stopped.push(name); }
              }
              const image = new Image();
              const isStopped = await new Promise((resolve) => {
                image.onload = () => resolve(false);
                image.onerror = () => resolve(true);
                image.src = `${address}/scale.png`;
              });
              if (isStopped) stopped.push("image");
              const script = document.createElement("script");
              try { script.textContent = "window.isRun = 1"; } catch { stopped.push("script"); }
              document.body.append(script);
              return [stopped, window.isRun ?? null];
            }""",
            address,
        )
        context.close()
    assert found == [["fetch", "markup", "address", "image", "script"], None]
    assert asked == []


@pytest.mark.parametrize(
    "look",
    [{}, {"color_scheme": "dark"}, PHONE, {**PHONE, "color_scheme": "dark"}],
    ids=["light", "dark", "phone", "dark-phone"],
)
def test_accessible_to_all(chromium, gallery, look):
    """axe finds nothing: the page, its filters, and each of its dialogs."""
    with open_page(chromium, gallery, **look) as page:
        find_barriers = prepare_axe(page)
        assert find_barriers() == []
        if page.locator("#show-filters").is_visible():
            page.locator("#show-filters").click()
            assert find_barriers() == []
            page.keyboard.press("Escape")
        page.locator(CELLS).first.focus()
        page.keyboard.press("p")
        page.keyboard.press("Enter")
        page.wait_for_timeout(200)
        assert find_barriers() == []
        page.keyboard.press("Escape")
        page.evaluate("state.setFilter('p', [2, 3])")
        assert count(page) == 0
        assert find_barriers() == []
        page.evaluate("state.clear()")
        for name in ("Picks", "How to read", "Keys"):
            if not page.get_by_role("button", name=name).is_visible():
                continue
            page.get_by_role("button", name=name).click()
            assert find_barriers() == [], name
            page.keyboard.press("Escape")


def prepare_axe(page):
    """Return a function that lists what axe finds wrong on the page."""
    try:
        import axe_playwright_python as axe
    except ImportError:
        do_without("no axe (extra test)")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))

    def find():
        found = page.evaluate("axe.run(document, {resultTypes: ['violations'], preload: false})")
        return [
            (one["id"], [node["html"][:120] for node in one["nodes"]])
            for one in found["violations"]
        ]

    return find


def test_axe_would_find_something(chromium, gallery):
    """The test above could fail."""
    with open_page(chromium, gallery) as page:
        find_barriers = prepare_axe(page)
        page.evaluate("document.querySelector('#size').parentElement.replaceWith(dom.find('size'))")
        assert [name for name, _ in find_barriers()] == ["label"]


def test_a_phone_has_room(chromium, gallery):
    """Nothing is wider than the screen, and filters open over the galaxies."""
    with open_page(chromium, gallery, **PHONE) as page:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert not page.locator("#filters").is_visible()
        page.locator("#show-filters").tap()
        page.get_by_role("group", name="right or wrong").get_by_label("wrong").check()
        page.locator("#hide-filters").tap()
        assert not page.locator("#filters").is_visible()
        page.locator(CELLS).first.tap()
        assert page.get_by_role("dialog").is_visible()
        assert page.evaluate("document.querySelector('dialog[open]').scrollWidth <= innerWidth")


def test_light_and_dark_are_a_choice_that_is_kept(chromium, gallery):
    """The system decides until the reader does."""
    ground = "getComputedStyle(document.body).backgroundColor"
    with open_page(chromium, gallery, color_scheme="dark") as page:
        dark = page.evaluate(ground)
        page.locator("#theme").click()
        light = page.evaluate(ground)
        assert light == "rgb(255, 255, 255)" != dark
        page.reload()
        wait_for(page, "document.querySelector('[role=gridcell]') !== null")
        assert page.evaluate(ground) == light


def test_classes_that_are_not_shown_are_called_so(chromium, make_store, tmp_path):
    """Of many classes, a galaxy has two maps; the others are not there to be drawn."""
    path = make_store(class_names=tuple("abcdefg"), n=14, size=16, map_size=8)
    make_gallery(path, tmp_path / "g", slice(None))
    _, columns = read_core(tmp_path / "g")
    with open_page(chromium, tmp_path / "g") as page:
        page.select_option("#show", "class-0")
        page.wait_for_timeout(50)
        tags = [page.locator(CELLS).nth(k).locator(".tag").is_visible() for k in range(14)]
        shown = (columns["shown.0"] == 0) | (columns["shown.1"] == 0)
        assert tags == (~shown).tolist()
        assert True in tags
        assert False in tags
