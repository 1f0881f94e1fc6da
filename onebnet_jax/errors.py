"""The one exception for what the user can mend: bad input, missing data, an unusable work directory."""


class UserError(ValueError):
    """Its message is one clear sentence that names the thing and the remedy; commands print it and exit with 2."""
