"""The paper: two passes of one LVLM, its adapters, summary tokens and retrieval head."""
