"""Making the template somebody else's project: its name, its license, its history.

A rename is text, in three steps that know nothing of each other: the rules (`renaming`), what is begun anew (`fresh`),
and what a formatter and DVC's locks need afterwards (`tidying`, `lockfiles`). `plan` puts them together, from what is
committed; `tree` writes the result.
"""
