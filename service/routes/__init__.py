"""Thin routes: from HTTP to a use case and back."""
