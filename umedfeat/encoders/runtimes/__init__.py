"""How a network is computed: torch or OpenVINO."""
