"""Reproducible Grad-CAM figures for whole catalogs of galaxies.

The names in ``__all__`` are the public interface. They are imported on first access, so that
``import galfig`` is fast and does not import torch:

>>> import galfig
>>> store = galfig.open_store("maps.h5")                                    # doctest: +SKIP
>>> rows = store.select("oh_p50 > 9.15", true="high", sort="loss", n=5)     # doctest: +SKIP
>>> galfig.plot.panels(store, rows).save("figure.pdf")                      # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from galfig import plot as plot
    from galfig.attribution.engine import Engine as Engine
    from galfig.attribution.engine import make_engine as make_engine
    from galfig.attribution.gradcam import CamBatch as CamBatch
    from galfig.attribution.gradcam import grad_cam as grad_cam
    from galfig.auditing.main import audit as audit
    from galfig.catalog.check import check_catalog as check_catalog
    from galfig.catalog.folders import catalog_from_folders as catalog_from_folders
    from galfig.catalog.galaxies import Galaxies as Galaxies
    from galfig.catalog.sample import load_catalog as load_catalog
    from galfig.catalog.sample import simulate as simulate
    from galfig.citing.main import Citations as Citations
    from galfig.citing.main import cite as cite
    from galfig.config import Settings as Settings
    from galfig.config import load_settings as load_settings
    from galfig.errors import GalfigError as GalfigError
    from galfig.export.crate import write_crate as write_crate
    from galfig.export.main import export_maps as export_maps
    from galfig.export.main import export_table as export_table
    from galfig.export.main import subset as subset
    from galfig.gallery.main import make_gallery as make_gallery
    from galfig.networks.checkpoint import Checkpoint as Checkpoint
    from galfig.networks.checkpoint import load_checkpoint as load_checkpoint
    from galfig.networks.ensemble import load_networks as load_networks
    from galfig.networks.importing import import_model as import_model
    from galfig.networks.main import train as train
    from galfig.pipeline.main import build_maps as build_maps
    from galfig.pipeline.main import build_parts as build_parts
    from galfig.pipeline.merge import merge_maps as merge_maps
    from galfig.pipeline.supply import explain_again as explain_again
    from galfig.store.audits import Audit as Audit
    from galfig.store.audits import open_audit as open_audit
    from galfig.store.reader import Store as Store
    from galfig.store.reader import open_store as open_store
    from galfig.store.selection import Rows as Rows
    from galfig.survey.hips import fetch_hips as fetch_hips
    from galfig.survey.legacy import fetch_legacy as fetch_legacy
    from galfig.survey.sdss import fetch_sdss as fetch_sdss
    from galfig.truth.main import score as score

__version__ = "0.1.0"

__all__ = [
    "Audit",
    "CamBatch",
    "Checkpoint",
    "Citations",
    "Engine",
    "Galaxies",
    "GalfigError",
    "Rows",
    "Settings",
    "Store",
    "audit",
    "build_maps",
    "build_parts",
    "catalog_from_folders",
    "check_catalog",
    "cite",
    "explain_again",
    "export_maps",
    "export_table",
    "fetch_hips",
    "fetch_legacy",
    "fetch_sdss",
    "grad_cam",
    "import_model",
    "load_catalog",
    "load_checkpoint",
    "load_networks",
    "load_settings",
    "make_engine",
    "make_gallery",
    "merge_maps",
    "open_audit",
    "open_store",
    "plot",
    "score",
    "simulate",
    "subset",
    "train",
    "write_crate",
]

# Module that defines each name; a module is listed under its own name.
_PLACES = {
    "Audit": "galfig.store.audits",
    "CamBatch": "galfig.attribution.gradcam",
    "Checkpoint": "galfig.networks.checkpoint",
    "Citations": "galfig.citing.main",
    "Engine": "galfig.attribution.engine",
    "Galaxies": "galfig.catalog.galaxies",
    "GalfigError": "galfig.errors",
    "Rows": "galfig.store.selection",
    "Settings": "galfig.config",
    "Store": "galfig.store.reader",
    "audit": "galfig.auditing.main",
    "build_maps": "galfig.pipeline.main",
    "build_parts": "galfig.pipeline.main",
    "catalog_from_folders": "galfig.catalog.folders",
    "check_catalog": "galfig.catalog.check",
    "cite": "galfig.citing.main",
    "explain_again": "galfig.pipeline.supply",
    "export_maps": "galfig.export.main",
    "export_table": "galfig.export.main",
    "fetch_hips": "galfig.survey.hips",
    "fetch_legacy": "galfig.survey.legacy",
    "fetch_sdss": "galfig.survey.sdss",
    "grad_cam": "galfig.attribution.gradcam",
    "import_model": "galfig.networks.importing",
    "load_catalog": "galfig.catalog.sample",
    "load_checkpoint": "galfig.networks.checkpoint",
    "load_networks": "galfig.networks.ensemble",
    "load_settings": "galfig.config",
    "make_engine": "galfig.attribution.engine",
    "make_gallery": "galfig.gallery.main",
    "merge_maps": "galfig.pipeline.merge",
    "open_audit": "galfig.store.audits",
    "open_store": "galfig.store.reader",
    "plot": "galfig.plot",
    "score": "galfig.truth.main",
    "simulate": "galfig.catalog.sample",
    "subset": "galfig.export.main",
    "train": "galfig.networks.main",
    "write_crate": "galfig.export.crate",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first access."""
    if name not in _PLACES:
        raise AttributeError(f"module 'galfig' has no attribute {name!r}")
    module = importlib.import_module(_PLACES[name])
    value = module if _PLACES[name] == f"galfig.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
