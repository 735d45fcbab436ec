"""Exporters: one file per target; each says what it expects, and is run where it is installed."""
