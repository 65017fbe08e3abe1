"""The pipeline: catalog, images, network and store meet here."""
