"""What people look at: pictures of images, samples and cells, and the summary of a cleaning."""
