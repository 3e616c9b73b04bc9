"""Training an encoder of one's own on many labelled tasks (``umedfeat.pretrain``); its file goes into ``extract``."""
