"""What knows neither networks nor searches: files, checkpoints, logs, processes."""

# Scheme of a path -> name of the module that registers its handler when it is imported. Filled from
# above, by whoever puts packages together; see fpnas.utils.file_io.local_path. It stands here
# because that must cost nothing: file_io imports iopath.
scheme_providers: dict[str, str] = {}
