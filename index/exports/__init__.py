"""Exports: libraries as plain files, to move them to another data folder or kind of store."""
