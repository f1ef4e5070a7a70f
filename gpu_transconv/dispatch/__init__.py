"""Which kernel runs, and why: predicted, tuned, chosen, explained.

``select``          candidates of a problem, the choice among them, the last one
``explain``         what a call would run and why
``cost``            seconds that a kernel should take; ``limits`` what a device can do at best, ``device`` which it is
``measure_limits``  measures those limits; ``tune`` measures the candidates, by ``timing``
``store``           tuning results, on disk in ``database``, in the ``cache_folder``
"""
