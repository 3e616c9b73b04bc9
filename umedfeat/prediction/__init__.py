"""What features are used for once a study is done: similar items, saved probes on new inputs."""
