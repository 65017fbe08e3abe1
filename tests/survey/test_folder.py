"""The folder of a fetch: nothing that somebody else put there is written to or removed."""

import pytest

from galfig.errors import OutputError
from galfig.survey.folder import _refuse_foreign, _refuse_links


@pytest.mark.parametrize("name", ["catalog.csv", "manifest.csv", "failed.csv", "fetch.json"])
def test_a_link_is_not_followed(tmp_path, name):
    """It may lead to a file of the user, whether that is there or not."""
    (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="is a link"):
        _refuse_links(tmp_path, "catalog.csv")


@pytest.mark.parametrize("name", ["manifest.csv", "failed.csv", "images/1.jpg"])
def test_files_of_others_are_left_alone(tmp_path, name):
    """A folder that no fetch has begun may hold an empty folder for the cutouts, but no files."""
    (tmp_path / "images").mkdir()
    _refuse_foreign(tmp_path)
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="is there already"):
        _refuse_foreign(tmp_path)
