"""Ground that every other part may stand on: errors, files, configuration, registry, run log."""
