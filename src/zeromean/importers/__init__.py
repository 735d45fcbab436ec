"""Importers: one file for each foreign format; each reads numbers, and says what it cannot know."""
