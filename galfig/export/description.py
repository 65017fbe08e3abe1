"""The description of an RO-Crate: JSON-LD with the words of schema.org.

It follows `RO-Crate 1.1 <https://w3id.org/ro/crate/1.1>`_.
"""

import mimetypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from galfig.citing.bibliography import Entry
from galfig.citing.main import cite
from galfig.config import PublicationSettings
from galfig.errors import OutputError
from galfig.figures.captions import PLAIN, count_noun, describe_explained, list_classes
from galfig.figures.metadata import read_record
from galfig.figures.methods import find_words
from galfig.runtime.clock import now
from galfig.store.audits import is_audit, open_audit
from galfig.store.reader import Store, open_store, read_digest

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/crate/1.1"
_FORMATS = {
    ".h5": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".fits": "application/fits",
    ".parquet": "application/vnd.apache.parquet",
    ".ecsv": "text/plain",
    ".tex": "text/x-tex",
    ".bib": "text/x-bibtex",
    ".lock": "application/json",
    ".toml": "application/toml",
    ".md": "text/markdown",
}

HDF5 = (".h5", ".hdf5")

Entity = dict[str, Any]


@dataclass
class Origins:
    """What the files of a crate can be made from.

    Attributes
    ----------
    files : dict of str to str
        Name in the crate of each store and audit, by its own digest.
    subsets : dict of str to str
        Name of the one subset of a store, by the digest of that store; "" if there are several.
        What is made from a subset names the whole store.
    networks : tuple of str
        SHA-256 of the networks that the store explains.
    """

    files: dict[str, str] = field(default_factory=dict)
    subsets: dict[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """What the store says for the description of the whole crate.

    Attributes
    ----------
    name : str
        Name of the store in the crate.
    description : str
        What the store is, in a sentence.
    versions, trained : dict of str to str
        Versions of the programs that made it, and of those that trained its networks, by name.
    networks : tuple of str
        SHA-256 of the networks that it explains.
    created : str
        When it was made.
    papers : tuple of Entry
        The papers on which it builds, and those that its surveys ask for.
    """

    name: str
    description: str
    versions: dict[str, str]
    trained: dict[str, str]
    networks: tuple[str, ...]
    created: str
    papers: tuple[Entry, ...]


def describe_context(store: Store, name: str, publication: PublicationSettings) -> Context:
    """Describe a store, called ``name`` in the crate, for the whole crate."""
    record = store.record
    simulated = "simulated " if record.simulated else ""
    description = (
        f"{find_words(record).name} maps of {len(store)} {simulated}galaxies for "
        f"{list_classes(store, PLAIN)}, which explain {describe_explained(store, PLAIN)} of the "
        f"network {store.training.arch}, made by galfig {record.galfig_version}."
    )
    versions = {"galfig": record.galfig_version}
    if "torch_version" in store.attrs:
        versions["torch"] = str(store.attrs["torch_version"])
    versions |= record.software
    networks = (record.checkpoint_sha256, *(one.checkpoint_sha256 for one in record.networks))
    trained = store.training.versions or {}
    cited = cite(store, settings={"publication": {"surveys": list(publication.surveys)}})
    return Context(
        name,
        description,
        versions,
        trained,
        networks,
        str(store.attrs["created"]),
        tuple(reference.entry for reference in cited.references),
    )


def describe_store(store: Store, origins: Origins) -> Entity:
    """Describe the file of a store; a subset is based on the whole store, if that is there."""
    lacking = {
        "full": "maps, cutouts",
        "native": "maps of 8 bits",
        "statistics": "statistics of the maps",
    }
    whole = origins.files.get(store.whole_digest) if store.is_subset else None
    kind = "Some galaxies of a larger store" if store.is_subset else "A store"
    return {
        "name": f"{find_words(store.record).name} maps of {count_noun(len(store), 'galaxy')}",
        "description": f"{kind} of galfig (HDF5): {lacking[store.form]}, probabilities and "
        "columns of the catalog, with digests of all that it holds.",
        "dateCreated": str(store.attrs["created"]),
        **({"isBasedOn": {"@id": quote(whole)}} if whole else {}),
    }


def describe_file(path: Path, name: str, origins: Origins) -> Entity:
    """Describe a file by what it is, and by the files of the crate that it was made from.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Its name in the crate.
    origins : Origins
        Stores and audits that are known already; if the file is an audit, it joins them.

    Returns
    -------
    dict
        Properties of schema.org.

    Raises
    ------
    StoreError, AuditError, FigureError
        If it is a store, an audit or a figure, and damaged.
    OutputError
        If it cannot be read.
    """
    try:
        if find_store(path) is not None:
            with open_store(path) as store:
                return describe_store(store, origins)
        if path.suffix.lower() in HDF5 and is_audit(path):
            record = open_audit(path).record
            origins.files[record.audit_digest] = name
            about = {"description": "An audit: measures of what the maps of a store are worth."}
            return about | _base_on([record.store.plan_digest], origins)
        figure = read_record(path)
    except OSError as exc:
        raise OutputError(f"{path}: cannot be read ({exc.strerror}), expected a file") from exc
    if figure is None:
        return {"description": "A network (safetensors)."} if _is_network(path) else {}
    sources = [figure.provenance.get(key) for key in ("store", "other", "audit")]
    digests = [
        source.get(key)
        for source in sources
        if isinstance(source, Mapping)
        for key in ("plan_digest", "audit_digest")
    ]
    about = {"name": figure.title, "description": figure.caption}
    return about | _base_on(digests, origins)


def find_store(path: Path) -> str | None:
    """Return the plan digest of a store; None of any other file."""
    return read_digest(path) if path.suffix.lower() in HDF5 and path.is_file() else None


def _is_network(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def _base_on(digests: Iterable[object], origins: Origins) -> Entity:
    known = {**origins.subsets, **origins.files}
    found = dict.fromkeys(known.get(digest, "") for digest in digests if isinstance(digest, str))
    ids = [{"@id": quote(name)} for name in found if name]
    return {"isBasedOn": _refer(ids)} if ids else {}


def complete_file(name: str, about: Entity, size: int, digest: str) -> Entity:
    """Return the entity of a file, of a size [byte] and SHA-256, in the crate."""
    suffix = PurePosixPath(name).suffix.lower()
    kind = _FORMATS.get(suffix) or mimetypes.guess_type(f"x{suffix}", strict=False)[0]
    return {
        "@id": quote(name),
        "@type": "File",
        "name": name,
        **about,
        "encodingFormat": kind or "application/octet-stream",
        "contentSize": str(size),
        "sha256": digest,
    }


def compose(
    files: Sequence[Entity], context: Context, publication: PublicationSettings
) -> dict[str, Any]:
    """Compose the description of a crate.

    Parameters
    ----------
    files : sequence of dict
        Entities of its files; see `complete_file`.
    context : Context
        What the store says.
    publication : PublicationSettings
        Title, authors and licence; what else it holds is taken, too.

    Returns
    -------
    dict
        JSON-LD.
    """
    authors, organizations = _list_authors(publication)
    actions = _list_actions(files, context)
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": publication.title,
        "description": publication.description or context.description,
        "datePublished": publication.date or now().date().isoformat(),
        "license": {"@id": _locate_license(publication)},
        "author": _refer(authors),
        "hasPart": _refer(files),
        "mentions": _refer(actions),
    }
    if publication.doi:
        root["identifier"] = f"https://doi.org/{publication.doi}"
    papers = _list_papers(context.papers)
    root["citation"] = _refer(papers)
    if publication.keywords:
        root["keywords"] = ", ".join(publication.keywords)
    license = {
        "@id": _locate_license(publication),
        "@type": "CreativeWork",
        "name": publication.license,
        "description": "The licence under which this is published.",
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": {"@id": PROFILE},
    }
    every = [*_list_programs(context.versions), *_list_programs(context.trained)]
    used = {name for action in actions for name in _find_ids(action["instrument"])}
    programs = {one["@id"]: one for one in every if one["@id"] in used}.values()
    graph = [
        descriptor,
        root,
        *authors,
        *organizations,
        license,
        *files,
        *actions,
        *programs,
        *papers,
    ]
    # A word of schema.org that the context of RO-Crate 1.1 need not hold.
    words = [f"{PROFILE}/context", {"sha256": "http://schema.org/sha256"}]
    return {"@context": words, "@graph": graph}


def _refer(entities: Iterable[Entity]) -> Entity | list[Entity]:
    """Refer to entities; JSON-LD has no list of one."""
    ids = [{"@id": entity["@id"]} for entity in entities]
    return ids[0] if len(ids) == 1 else ids


def _locate_license(publication: PublicationSettings) -> str:
    words = str(publication.license)
    return words if "://" in words else f"https://spdx.org/licenses/{words}"


def _list_authors(publication: PublicationSettings) -> tuple[list[Entity], list[Entity]]:
    """List the authors, and their institutions without duplicates."""
    names = dict.fromkeys(author.affiliation for author in publication.authors)
    places = {name: f"#institution-{number}" for number, name in enumerate(filter(None, names), 1)}
    authors = []
    for number, author in enumerate(publication.authors, 1):
        orcid = f"https://orcid.org/{author.orcid}" if author.orcid else f"#author-{number}"
        entity: Entity = {"@id": orcid, "@type": "Person", "name": author.name}
        if author.affiliation:
            entity["affiliation"] = {"@id": places[author.affiliation]}
        authors.append(entity)
    kinds = [
        {"@id": place, "@type": "Organization", "name": name} for name, place in places.items()
    ]
    return authors, kinds


def _list_papers(papers: Iterable[Entry]) -> list[Entity]:
    """Describe papers, and programs without one, by their DOI or other address."""
    kinds = {"article": "ScholarlyArticle", "inproceedings": "ScholarlyArticle"}
    return [
        {
            "@id": paper.address or f"#{paper.key}",
            "@type": kinds.get(paper.kind, "CreativeWork"),
            "name": paper.title,
            "description": f"{paper.label}. {paper.place}".rstrip(". "),
        }
        for paper in papers
    ]


def _list_programs(versions: Mapping[str, str]) -> list[Entity]:
    return [
        {
            "@id": f"#{quote(f'{name}-{version}', safe='')}",
            "@type": "SoftwareApplication",
            "name": name,
            "softwareVersion": version,
        }
        for name, version in versions.items()
    ]


def _find_ids(reference: Entity | list[Entity]) -> list[str]:
    references = reference if isinstance(reference, list) else [reference]
    return [one["@id"] for one in references]


def _list_actions(files: Sequence[Entity], context: Context) -> list[Entity]:
    """Say how the store was made and, where its networks are in the crate, how these were."""
    networks = [file for file in files if file["sha256"] in context.networks]
    explained: Entity = {
        "@id": "#build-maps",
        "@type": "CreateAction",
        "name": "galfig build-maps",
        "description": "Explain every galaxy for every class.",
        "endTime": context.created,
        "instrument": _refer(_list_programs(context.versions)),
        "result": {"@id": quote(context.name)},
    }
    if not networks:
        return [explained]
    explained["object"] = _refer(networks)
    if not context.trained:
        return [explained]
    trained = {
        "@id": "#train",
        "@type": "CreateAction",
        "name": "galfig train",
        "description": "Train the network.",
        "instrument": _refer(_list_programs(context.trained)),
        "result": _refer(networks),
    }
    return [trained, explained]
