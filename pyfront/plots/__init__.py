"""Pictures of fronts."""
