"""Virtual stores from the builder: made, found complete, mended, copied and replaced."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from samples import build_at, explain_at, make_checkpoint

from galfig import merge_maps
from galfig.cli import main
from galfig.errors import OutputError, StoreError
from galfig.store.content import read_content
from galfig.store.reader import open_store, verify_store
from galfig.store.virtual import is_virtual

pytestmark = pytest.mark.usefixtures("at_one_time")


@pytest.fixture
def made(galaxy_folder, tmp_path, checkpoint):
    """Make the same store in two processes, and leave the maps in the parts."""
    path = tmp_path / "maps.h5"
    for share in ("1/2", "2/2"):
        explain_at(path, galaxy_folder, checkpoint, share, shard_size=5)
    merge_maps(path, virtual=True).close()
    return path


def test_virtual_store_is_the_copied_one(made, whole):
    """Content, maps and what `verify` finds; merged again, it is the same file or the copy."""
    assert is_virtual(made)
    assert made.stat().st_size < whole.stat().st_size / 2
    assert read_content(made) == read_content(whole) is not None
    assert verify_store(made) == []
    with open_store(made) as one, open_store(whole) as other:
        assert one.n_parts == 5
        assert one.cams(slice(None)).tobytes() == other.cams(slice(None)).tobytes()
    before = made.read_bytes()
    merge_maps(made, virtual=True).close()
    assert made.read_bytes() == before
    merge_maps(made).close()
    assert made.read_bytes() == whole.read_bytes()
    assert not Path("maps.h5.parts").exists()
    merge_maps(made, virtual=True).close()
    assert not is_virtual(made)


def test_build_finds_it_complete_and_leaves_its_parts(made, galaxy_folder, checkpoint):
    """As one process, and as one of many."""
    before = {part.name: part.read_bytes() for part in Path("maps.h5.parts").iterdir()}
    assert build_at(made, galaxy_folder, checkpoint, shard_size=5) is False
    assert explain_at(made, galaxy_folder, checkpoint, "1/2", shard_size=5) is None
    assert before == {part.name: part.read_bytes() for part in Path("maps.h5.parts").iterdir()}
    assert is_virtual(made)


def test_build_makes_what_is_missing(made, galaxy_folder, checkpoint, caplog):
    """A part that was lost, or removed since it was damaged; the store stays virtual."""
    content = read_content(made)
    Path("maps.h5.parts/000003.h5").unlink()
    with pytest.raises(StoreError, match=r"000003\.h5"):
        open_store(made)
    with caplog.at_level("INFO", "galfig"):
        assert build_at(made, galaxy_folder, checkpoint, shard_size=5)
    assert "lacks some of its parts" in caplog.text
    assert "4 of 5 shards are done" in caplog.text
    assert is_virtual(made)
    assert read_content(made) == content


def test_renamed_store_is_written_again(made):
    """With its folder, under its new name; nothing is explained."""
    content = read_content(made)
    made.rename("new.h5")
    Path("maps.h5.parts").rename("new.h5.parts")
    with pytest.raises(StoreError, match=r"'new\.h5\.parts' and merge the parts with `virtual="):
        open_store("new.h5")
    merge_maps("new.h5", virtual=True).close()
    assert read_content(Path("new.h5")) == content


def test_replacing_says_that_the_old_maps_go(made, galaxy_folder, checkpoint, caplog):
    """They are in the folder that the new parts need."""
    assert build_at(made, galaxy_folder, checkpoint, shard_size=5, tta=True, if_exists="replace")
    assert "is virtual, and its maps are in maps.h5.parts: they are removed now" in (
        caplog.text.replace(f"{made.parent}/", "")
    )
    assert not is_virtual(made)
    assert not Path("maps.h5.parts").exists()
    with open_store(made) as store:
        assert store.settings.maps.tta


def test_parts_that_replace_those_of_a_virtual_store_are_announced(
    made, caplog, galaxy_folder, checkpoint
):
    """It says so before, and that its maps are other ones after."""
    options = {"shard_size": 5, "tta": True, "if_exists": "replace"}
    explain_at(made, galaxy_folder, checkpoint, "0", **options)
    assert "is virtual, and its parts are replaced" in caplog.text
    with pytest.raises(StoreError, match=r"000000\.h5 is not the one that the store was made of"):
        open_store(made)


def test_link_is_no_place_for_a_virtual_store(galaxy_folder, tmp_path, checkpoint):
    """The store would be where the link leads, and the parts beside the link."""
    (tmp_path / "large").mkdir()
    Path("maps.h5").symlink_to("large/maps.h5")
    explain_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, "1/1", shard_size=5)
    with pytest.raises(OutputError, match="is a symbolic link, expected the store itself"):
        merge_maps(tmp_path / "maps.h5", virtual=True)


def test_commands_take_a_virtual_store(galaxy_folder, tmp_path):
    """Each reads it as any other; a missing part is one line."""
    checkpoint = make_checkpoint(tmp_path / "m.safetensors")
    explain_at(tmp_path / "maps.h5", galaxy_folder, checkpoint, "1/1", shard_size=5)
    run = CliRunner().invoke
    done = run(main, ["merge", "maps.h5", "--virtual"])
    assert done.exit_code == 0, done.output
    assert " kB beside 5 parts, which hold its maps" in done.output
    for words in (
        ["info", "maps.h5"],
        ["verify", "maps.h5"],
        ["render", "maps.h5", "--n", "2", "--out", "panels.pdf"],
        ["figure", "stacked-maps", "maps.h5", "--out", "stacked.pdf"],
    ):
        done = run(main, words)
        assert done.exit_code == 0, done.output
    Path("maps.h5.parts/000001.h5").unlink()
    done = run(main, ["render", "maps.h5", "--n", "2", "--out", "more.pdf"])
    assert done.exit_code == 1
    assert "galfig: error: maps.h5: 1 of 5 parts are missing" in done.output
