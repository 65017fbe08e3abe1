"""The recipe of a network: what cannot be compared is warned of."""

import logging
from dataclasses import replace
from pathlib import Path

from samples import load_with_settings

from galfig.networks.recipe import warn_of_mismatch


def test_settings_of_another_version_are_warned_of(galaxy_folder, checkpoint, caplog):
    """They cannot be compared, which is said; the network is used all the same."""
    galaxies, settings = load_with_settings(galaxy_folder)
    strange = replace(checkpoint, metadata={**checkpoint.metadata, "settings": {"nosuch": {}}})
    with caplog.at_level(logging.WARNING, "galfig"):
        warn_of_mismatch(strange, galaxies, settings, Path("m.safetensors"))
    (message,) = caplog.messages
    assert message.startswith("m.safetensors: was trained by another version of galfig")
