"""Words every part uses: slots, errors, files, names. Imports nothing, so that light commands stay light."""
