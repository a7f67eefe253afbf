"""What all of the package stands on; not for users."""
