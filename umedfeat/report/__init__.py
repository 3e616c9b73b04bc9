"""What people look at: result files, tables, the page of a study or comparison, pictures of inputs."""
