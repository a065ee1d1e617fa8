"""Token store in a Lance dataset, in an object store or a folder; needs the extra `lance`."""
