"""Export: files for the journal and the co-author, made from a store."""
