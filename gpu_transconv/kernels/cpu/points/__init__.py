"""Small maps: products tap by tap of those inputs and outputs that exist, by lists, so that no border is multiplied.

`meetings` says which points meet; `point_lists` cuts for `gather_points`, `point_strips` for `scatter_points`, which
uses weights as they lie.
"""
