"""Object stores: a package, as its fixtures are its own."""
