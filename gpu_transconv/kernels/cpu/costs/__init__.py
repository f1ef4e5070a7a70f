"""What each kernel should cost in a problem, with no measuring; no kernel imports these modules.

`sizes`: what all of them count from. `cost` has the unit, and gather with the channels first; `cost_last` gather with
the channels last; `cost_scatter` and `cost_lists` scatter, and what goes by lists; `cost_others` what the fit left out.
"""
