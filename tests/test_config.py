"""Settings: what holds, where from, and what is refused."""

import errno
import os
from pathlib import Path
from typing import get_args

import pytest

from galfig.config import Settings, load_settings, restore_settings
from galfig.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def load(tmp_path, words, overrides=None):
    path = tmp_path / "galfig.toml"
    path.write_text(words)
    return load_settings(path, overrides)


def test_repository_settings_are_the_defaults():
    """galfig.toml describes the embedded default; only the pixel scale is knowledge of its own."""
    described = load_settings(ROOT / "galfig.toml").model_dump()
    assert described["catalog"].pop("pixel_scale") == 0.396
    expected = Settings().model_dump()
    expected["catalog"].pop("pixel_scale")
    assert described == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("epochs = 5", r"epochs: outside a table; put it under \[training\]"),
        ("xyz = 5", "xyz: outside a table, expected one of catalog"),
        ("[training]\nepoch = 5", r"\[training\] epoch: unknown key; did you mean 'epochs'\?"),
        ("[training]\nxyz = 5", r"\[training\] xyz: unknown key; expected one of arch, batch_size"),
        ("[Training]\nepochs = 5", r"\[Training\]: unknown table; did you mean 'training'\?"),
        ("[training]\nepochs = 2.5", "epochs: found 2.5; input should be a valid integer"),
        ("[training]\nepochs = true", "epochs: found True; input should not be a boolean"),
        ("[training]\nlr = false", "lr: found False; input should not be a boolean"),
        ("[training]\nimage_size = true", "image_size: found True; input should not be"),
        ("[catalog]\npixel_scale = true", "pixel_scale: found True; input should not be"),
        (
            "[catalog]\nfits_range = [false, true]",
            r"fits_range: found \[False, True\]; input should",
        ),
        ("[classes]\nedges = [true, 2]\nlabels = ['a']", r"edges: found \[True, 2\]; input should"),
        ("[training]\nlr = -1", "lr: found -1; input should be greater than 0"),
        (
            "[training]\nlr = 'fast'",
            "lr: found 'fast'; .*valid number.* or .*'auto'",
        ),
        ("[training]\nlabel_smoothing = nan", "label_smoothing: found nan"),
        ("[split]\nvalid_fraction = 1.0", "valid_fraction: found 1.0; input should be less than 1"),
        ("[classes]\nedges = [2, 1]\nlabels = ['a']", "edges .* are not two or more increasing"),
        ("[classes]\nedges = [1, 1, 2]\nlabels = ['a', 'b']", "are not two or more increasing"),
        ("[classes]\nedges = [1, 2, 3]\nlabels = ['a']", "3 edges make 2 bins, but there are 1"),
        ("[classes]\nedges = [1, 2, 3]", "2 bins, but no labels are given"),
        ("[classes]\nedges = [1, 2, 3]\nlabels = ['a', 'a']", "'a' appears twice in labels"),
        ("[classes]\nkeep = ['low']", "fewer than two classes"),
        ("[classes]\nkeep = ['low', 'hihg']", "keep names 'hihg', which is not one of the labels"),
        ("[classes]\nedges = 0", "edges: found 0; input should be a list"),
        ("[classes]\nedges = [-inf, inf]", "found -inf; input should be a finite number$"),
        ("[training]\narch = 5", "arch: found 5; input should be a valid string"),
        ("[classes]\ncolumn = 'm'\nlabels = ['a', 'b']", "labels are given without edges"),
        ("catalog = 'x.csv'", r"catalog is 'x.csv', expected a table \[catalog\]"),
        ("[catalog", "not valid TOML"),
    ],
)
def test_mistakes_are_one_line_each(tmp_path, words, message):
    """Each names the file, the table and the key, and what was expected."""
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, words)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "galfig.toml"))


def test_missing_file_is_named(tmp_path):
    """A settings file that --config names must be there."""
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read"):
        load_settings(tmp_path / "absent.toml")


def test_options_override_the_file(tmp_path):
    """An option wins, and one that was not given changes nothing."""
    overrides = {("training", "epochs"): 7, ("training", "arch"): None, ("maps", "layer"): "conv2"}
    settings = load(tmp_path, "[training]\nepochs = 3\narch = 'xresnet18'", overrides)
    assert settings.training.epochs == 7
    assert settings.training.arch == "xresnet18"
    assert settings.maps.layer == "conv2"


def test_paths_start_where_they_were_written(tmp_path, monkeypatch):
    """Paths of the file start at the file, those of options at the working directory."""
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "galfig.toml").write_text("[catalog]\npath = 'a/catalog.csv'")
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Path("paper/galfig.toml"))
    assert settings.catalog_path == Path("paper/a/catalog.csv")
    assert settings.images_dir == Path("paper/a")
    overrides = {("catalog", "path"): Path("b.csv"), ("catalog", "images_dir"): Path("img")}
    settings = load_settings(Path("paper/galfig.toml"), overrides)
    assert settings.catalog_path.resolve() == tmp_path / "b.csv"
    assert settings.images_dir.resolve() == tmp_path / "img"
    # What is recorded does not tell where the folder lies.
    assert str(tmp_path) not in settings.model_dump_json()


def test_defaults_of_metallicity_stay_with_metallicity(tmp_path):
    """Another column, or other edges, inherit neither bins nor labels nor name."""
    classes = load(tmp_path, "[classes]\ncolumn = 'morphology'").classes
    assert (classes.edges, classes.labels, classes.keep, classes.name) == (None, None, None, "")
    classes = load(tmp_path, "[classes]\nedges = [1, 2, 3]\nlabels = ['a', 'b']").classes
    assert classes.keep is None
    classes = load(tmp_path, "[classes]\nname = 'Z'").classes
    assert classes.labels == ("low", "medium", "high")


def test_empty_edges_mean_classes_of_text(tmp_path):
    """TOML has no null: [] takes metallicity's bins away, as () does from Python."""
    classes = load(tmp_path, "[classes]\nedges = []").classes
    assert (classes.edges, classes.labels, classes.keep) == (None, None, None)
    assert load(tmp_path, "", {("classes", "edges"): ()}).classes == classes


def test_learning_rate_may_be_left_to_the_finder(tmp_path):
    """'auto' stands beside numbers, from the file and from an option."""
    assert load(tmp_path, "[training]\nlr = 'auto'").training.lr == "auto"
    assert load(tmp_path, "", {("training", "lr"): "auto"}).training.lr == "auto"


def test_images_are_named_by_the_id_column(tmp_path):
    """Another id column changes the default template with it."""
    settings = load(tmp_path, "[catalog]\nid = 'specid'")
    assert settings.catalog.images == "images/{specid}.jpg"


@pytest.mark.parametrize(
    "words",
    [
        "",
        "[classes]\ncolumn = 'm'",
        "[catalog]\nid = 'x'\npixel_scale = 'scale'\n[training]\nlr = 'auto'",
    ],
)
def test_recorded_settings_are_read_back(tmp_path, words):
    """What a checkpoint or a store records gives the same settings again."""
    settings = load(tmp_path, words)
    recorded = settings.model_dump(mode="json")
    assert Settings.model_validate(recorded).model_dump(mode="json") == recorded


def test_whole_numbers_are_numbers(tmp_path):
    """An integer may stand for a float, and a boolean for a boolean."""
    training = load(tmp_path, "[training]\nlr = 1\nepochs = 3.0\ngrayscale = true").training
    assert (training.lr, training.epochs, training.grayscale) == (1.0, 3, True)


def test_option_that_is_wrong_is_blamed_and_not_the_file(tmp_path):
    """galfig.toml may be right where the command line is not."""
    path = tmp_path / "galfig.toml"
    path.write_text("[training]\nepochs = 5")
    with pytest.raises(ConfigError, match=r"^arguments: \[training\] epochs: found 0"):
        load_settings(path, {("training", "epochs"): 0, ("split", "seed"): None})


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("broken link", "cannot be read (No such file or directory)"),
        ("loop", "cannot be read (Too many levels of symbolic links)"),
        ("folder", "cannot be read (Is a directory)"),
        ("pipe", "cannot be read (a named pipe, expected a regular file)"),
        ("device", "cannot be read (a device, expected a regular file)"),
        ("large", "cannot be read (2.0 MB, expected at most 1.0 MB)"),
        ("deep", "not valid TOML ("),
        ("long number", "not valid TOML ("),
        ("bytes", "not valid TOML ("),
    ],
)
def test_settings_that_cannot_be_read_are_no_defaults(tmp_path, monkeypatch, kind, reason):
    """Whatever has the name of the settings is the settings, also where nobody names it."""
    monkeypatch.chdir(tmp_path)
    path = Path("galfig.toml")
    made = {
        "broken link": lambda: path.symlink_to("absent"),
        "loop": lambda: path.symlink_to("galfig.toml"),
        "folder": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "device": lambda: path.symlink_to("/dev/zero"),
        "large": lambda: path.write_bytes(b" " * 2_000_000),
        "deep": lambda: path.write_text(f"a = {'[' * 100_000}"),
        "long number": lambda: path.write_text(f"a = {'9' * 100_000}"),
        "bytes": lambda: path.write_bytes(b"\xff\xfe"),
    }
    made[kind]()
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"galfig.toml: {reason}")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_settings_in_a_closed_folder_are_no_defaults(monkeypatch):
    """Whether there are any cannot be told where the folder may not be searched."""

    def refuse(*args, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.stat", refuse)
    monkeypatch.setattr("os.lstat", refuse)
    with pytest.raises(ConfigError, match=r"galfig\.toml: cannot be read \(Permission denied\)"):
        load_settings()


def test_settings_of_before_are_recorded_as_before():
    """Keys that came later are not recorded at their defaults: digests stay what they were."""
    record = Settings().record()
    assert not {"names", "duplicates", "columns"} & set(record["catalog"])
    assert not {"columns", "threshold"} & set(record["classes"])
    assert not {"test", "files"} & set(record["split"])
    given = {
        "catalog": {"names": ["objID", "kind"], "duplicates": "first", "columns": ["ra"]},
        "classes": {"columns": ["a", "b"], "threshold": 0.6},
        "split": {"test": "/home/me/test.csv", "files": {"valid": "/home/me/v.h5[a/b]"}},
    }
    settings = load_settings(given)
    record = settings.record()
    assert record["catalog"]["names"] == ["objID", "kind"]
    assert record["catalog"]["duplicates"] == "first"
    assert record["catalog"]["columns"] == ["ra"]
    assert record["classes"]["column"] == "the largest of a, b"
    assert record["split"]["test"] == "test.csv"
    assert record["split"]["files"] == {"valid": "v.h5[a/b]"}
    assert restore_settings(record).record() == record
    assert load_settings(settings).record() == record


def test_a_path_may_name_a_table_of_a_file(tmp_path):
    """What stands in brackets behind a suffix is the table; images lie beside the file."""
    (tmp_path / "galfig.toml").write_text('[catalog]\npath = "data/a.h5[group/table]"\n')
    settings = load_settings(tmp_path / "galfig.toml")
    assert settings.catalog_files == ((tmp_path / "data" / "a.h5", "group/table", ""),)
    assert settings.images_dir == tmp_path / "data"
    assert settings.record()["catalog"]["path"] == "a.h5[group/table]"
    plain = load_settings({"catalog": {"path": "a[1]/b.csv"}})
    assert plain.catalog_files == ((Path("a[1]/b.csv"), None, ""),)


def test_a_catalog_that_is_given_is_all_of_it():
    """The files of the settings say the splits of another catalog."""
    tables = {"split": {"files": {"train": "a.csv", "valid": "b.csv"}, "seed": 3}}
    assert [str(source.path) for source in load_settings(tables).catalog_files] == [
        "a.csv",
        "b.csv",
    ]
    other = load_settings(tables, {("catalog", "path"): Path("c.csv")})
    assert [str(source.path) for source in other.catalog_files] == ["c.csv"]
    assert other.split.seed == 3


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"classes": {"columns": ["a"]}}, "are fewer than two"),
        ({"classes": {"columns": ["a", "b"], "column": "c"}}, "column and columns are given"),
        ({"classes": {"columns": ["a", "b"], "edges": [1, 2]}}, "edges and columns are given"),
        ({"classes": {"columns": ["a", "b"], "labels": ["x"]}}, "2 columns, but .* 1 labels"),
        ({"classes": {"columns": ["a", "b"], "keep": ["a", "c"]}}, "keep names 'c', which is not"),
        ({"classes": {"column": "c", "threshold": 0.5}}, "threshold is given without columns"),
        ({"catalog": {"names": ["a", "a"]}}, "'a' appears twice in names"),
        ({"catalog": {"columns": ["a", "a"]}}, "'a' appears twice in columns"),
        ({"catalog": {"duplicates": "last"}}, "duplicates: found .last.; input should"),
        ({"split": {"files": {"dev": "a.csv"}}}, "input should be 'train', 'valid' or 'test'"),
        ({"split": {"files": {}}}, "files is empty, expected a catalog"),
        ({"split": {"files": {"test": "a"}, "test": "b"}}, "test and files.test are given"),
        ({"split": {"files": {"test": "a"}, "column": "b"}}, "files and column are given"),
        (
            {"split": {"files": {"train": "a"}}, "catalog": {"path": "b"}},
            r"settings: \[catalog\] path and \[split\] files.train are given, expected one of them",
        ),
    ],
)  # fmt: skip
def test_settings_of_catalogs_that_contradict_each_other(tables, message):
    """One of two is meant, and only the user knows which."""
    with pytest.raises(ConfigError, match=message):
        load_settings(tables)


def test_keys_of_images_at_their_defaults_are_not_recorded():
    """Stores and networks from before these keys existed stay up to date."""
    old = {"path", "id", "images", "images_dir", "redshift", "pixel_scale", "fits_range"}
    assert set(load_settings({}).record()["catalog"]) == old
    changed = {"planes": [1, 0, 2], "scale": "whole", "stretch": "percentiles"}
    recorded = load_settings({"catalog": changed}).record()["catalog"]
    assert {key: recorded[key] for key in recorded if key not in old} == changed
    # Reading them back, as settings of another function are, changes nothing.
    settings = load_settings({"catalog": changed})
    assert load_settings(settings) == settings


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        ({"planes": [1]}, 'one channel with stretch = "lupton", expected red, green and blue'),
        ({"planes": [3, 2, 1, 0]}, "4 channels with stretch"),
        ({"fits_range": [0, 1]}, 'fits_range and stretch = "lupton", expected one of them'),
        ({"stretch": "sky", "lupton_q": 9}, 'lupton_q with stretch = "sky", expected "lupton"'),
        ({"lupton_stretch": 0}, "lupton_stretch: found 0; input should be greater than or equal"),
        ({"lupton_minimum": [0, 1]}, "lupton_minimum: found .* input should be a valid number or"),
    ],
)
def test_stretch_of_lupton_needs_three_channels_and_its_own_parameters(catalog, message):
    """What would be ignored, or could not be shown, is refused before an image is read."""
    with pytest.raises(ConfigError, match=message):
        load_settings({"catalog": {"stretch": "lupton", **catalog}})


def test_stretch_of_lupton_is_recorded_and_read_back():
    """Its parameters too, where they are not the defaults."""
    keys = {"stretch": "lupton", "lupton_stretch": 0.25, "lupton_minimum": [0.0, 0.1, 0.2]}
    settings = load_settings({"catalog": keys})
    recorded = settings.record()["catalog"]
    assert {key: recorded.get(key) for key in keys} == keys
    assert "lupton_q" not in recorded
    assert restore_settings(settings.record()).record() == settings.record()
    assert settings.catalog.record_lupton()["minimum"] == (0.0, 0.1, 0.2)
    assert load_settings({}).catalog.record_lupton()["minimum"] == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("catalog", "names"),
    [
        ({}, ("channel 0", "channel 1", "channel 2")),
        ({"planes": [3, 1, 0]}, ("plane 3", "plane 1", "plane 0")),
        ({"planes": [2]}, ("channel 0", "channel 1", "channel 2")),
        ({"extensions": ["I", 2]}, ("extension I", "extension 2")),
        ({"bands": ["{id}_g.fits", "{id}_r.fits"]}, ("band g", "band r")),
        ({"bands": ["Band2/S_I-{a}.fits", "Band1/S_R-{a}.fits"]}, ("band I", "band R")),
        ({"bands": ["vis/{a}.fits", "nir/{a}.fits"]}, ("band vis", "band nir")),
        ({"bands": ["a/{b}/c.fits", "{b}.jpg"]}, ("channel 0", "channel 1")),
    ],
)
def test_channels_have_names(catalog, names):
    """From the settings, as far as they say; captions use them."""
    settings = load_settings({"catalog": catalog})
    assert settings.catalog.channel_names == names
    assert settings.n_channels == len(names)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"catalog": {"planes": [0, 1], "bands": ["{a}", "{b}"]}}, "either bands or planes"),
        ({"catalog": {"planes": [0], "extensions": ["A", "B"]}}, "planes are of one extension"),
        ({"catalog": {"planes": [0, 1, 2, 3], "rgb": [4, 0, 1]}}, "channels from 0 to 3"),
        ({"catalog": {"planes": [True, 2]}}, "should not be a boolean"),
        ({"catalog": {"planes": [-1]}}, "greater than or equal to 0"),
        ({"catalog": {"bands": ["{a}"]}}, "at least 2 items"),
        (
            {"catalog": {"planes": [0, 1]}, "training": {"grayscale": True}},
            "names 2 channels, of which there is no luminance",
        ),
        (
            {"catalog": {"scale": "whole", "pixel_scale": 0.4}},
            "changes the pixel scale of each image",
        ),
    ],
)
def test_channels_that_do_not_fit_each_other(tables, words):
    """One line, which names the keys."""
    with pytest.raises(ConfigError, match=words):
        load_settings(tables)


def test_every_number_has_an_upper_bound():
    """What no file can record, and no machine hold, is refused where it is read."""

    def iter_fields(model, *names):
        for name, field in model.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from iter_fields(field.annotation, *names, name)
            elif int in (field.annotation, *get_args(field.annotation)):
                yield (*names, name), field

    found = dict(iter_fields(Settings))
    assert ("maps", "shard_size") in found
    for keys, field in found.items():
        assert any(hasattr(one, "le") or hasattr(one, "lt") for one in field.metadata), keys
    with pytest.raises(ConfigError, match="shard_size"):
        load_settings(None, {("maps", "shard_size"): 10**20})
