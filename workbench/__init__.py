"""Floor 3: the application: command line, Textual App, settings, key map, themes, palette."""
