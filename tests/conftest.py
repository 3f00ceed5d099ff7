from hypothesis import settings

# No deadlines: the first call into a solver, or a shared machine, makes an example slow, not wrong.
# The parent is what Hypothesis chose, so that its own profile for CI stays in force there.
_PARENT = settings.get_profile(settings.get_current_profile_name())
settings.register_profile("solver_nas", parent=_PARENT, deadline=None)
settings.load_profile("solver_nas")
