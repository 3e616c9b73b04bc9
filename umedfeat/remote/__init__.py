"""Files at URLs: what they are called, which there are, and how they come here, whatever the network does."""
