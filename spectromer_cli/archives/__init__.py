"""Archives of spectra: what they have of a target, downloaded, verified and catalogued.

Each archive is a module of its name with one function, ``find(wanted, radius, …)``, which `fetch`
calls, and an entry in `targets.KEYS`. It takes targets (`targets.Wanted`) and the radius in arcsec
around a position, and returns a list of `targets.Match` in the order of the targets: all spectra of
a target, or a row that says that there is none. It raises a NetworkError where a service does not
answer, and a UsageError where the release does not exist.
"""
