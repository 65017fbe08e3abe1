"""Origin: the network of a store is found by its digest, and no other file is taken for it."""

import shutil

import pytest
from samples import make_checkpoint

from galfig.errors import CheckpointError
from galfig.pipeline.origin import find_network
from galfig.store.reader import open_store


@pytest.fixture
def store(forms, tmp_path):
    """Open the copy of a store in a folder of its own."""
    shutil.copyfile(forms / "statistics.h5", tmp_path / "maps.h5")
    with open_store(tmp_path / "maps.h5") as opened:
        yield opened


def test_the_network_is_found_whatever_its_name(store, untrained, tmp_path):
    """Beside another network and files that are none."""
    make_checkpoint(tmp_path / "maps.safetensors", image_size=24)
    (tmp_path / "a.safetensors").write_bytes(b"no network")
    (tmp_path / "empty").mkdir()
    shutil.copyfile(untrained[0], tmp_path / "renamed.safetensors")
    assert find_network(store, [], None).digest == store.record.checkpoint_sha256


def test_links_beside_the_store_are_not_followed(store, untrained, tmp_path):
    """The store may be a stranger's; a link that is named is another matter."""
    link = tmp_path / "maps.safetensors"
    link.symlink_to(untrained[0])
    with pytest.raises(CheckpointError, match="is not in its folder or changed; name it with `mo"):
        find_network(store, [], None)
    assert find_network(store, [link], None).digest == untrained[1].digest


def test_the_network_beside_the_file_that_a_link_leads_to(forms, untrained, tmp_path):
    """The path of the store is the user's; links beside that file are not followed either."""
    home, links = tmp_path / "home", tmp_path / "links"
    home.mkdir()
    links.mkdir()
    shutil.copyfile(forms / "statistics.h5", home / "maps.h5")
    (links / "a.h5").symlink_to(home / "maps.h5")
    (home / "maps.safetensors").symlink_to(untrained[0])
    with open_store(links / "a.h5") as opened:
        with pytest.raises(CheckpointError, match="is not in its folder or changed"):
            find_network(opened, [], None)
        (home / "maps.safetensors").unlink()
        shutil.copyfile(untrained[0], home / "maps.safetensors")
        assert find_network(opened, [], None).digest == untrained[1].digest


def test_one_of_several_is_chosen(store, untrained, tmp_path):
    """Files and networks in memory; and where none is it, all of them are named."""
    other = make_checkpoint(tmp_path / "other.safetensors", image_size=24)
    given = [other, tmp_path / "other.safetensors"]
    assert find_network(store, [*given, untrained[1]], None) is untrained[1]
    with pytest.raises(CheckpointError, match=r"and a network, .*other\.safetensors is not it"):
        find_network(store, given, None)
