"""Google's ``edgetpu_compiler``: found, run with care, and its reports read.

`compile.compile_model` compiles a model; `find.find` says whether there is a compiler.
"""
