"""Google's ``edgetpu_compiler``: found, run with care, and its reports read."""
