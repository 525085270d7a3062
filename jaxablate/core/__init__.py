"""Words every part uses. Imports nothing, so that light commands stay light."""
