"""What any layer may use: argument checks, optional packages, files."""
