import os

from hypothesis import settings

# Read when the first library for arrays is imported: several threads in each of several workers slow all of them down.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No deadlines: the first call into a solver, or a shared machine, makes an example slow, not wrong.
# The parent is what Hypothesis chose, so that its own profile for CI stays in force there.
_PARENT = settings.get_profile(settings.get_current_profile_name())
settings.register_profile("solver_nas", parent=_PARENT, deadline=None)
settings.load_profile("solver_nas")
