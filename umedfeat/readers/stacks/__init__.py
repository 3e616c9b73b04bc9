"""What has slices: geometry, intensity, percentiles, and one reader on top."""
