"""What would stop or slow the main job on this machine, before it is started: a line each, with a remedy."""
