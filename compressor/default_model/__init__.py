"""Everything about the laptop model, and only here."""
