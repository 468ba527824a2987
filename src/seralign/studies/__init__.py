"""Studies: worlds by seeds by methods by settings, each run by the product itself, compared fairly."""
