"""Whether a data set fits a job, found in one pass over the whole of it, before a model is loaded or a GPU is taken.

report = check_data(spec, CheckedFile(path, fmt, "headlines.csv"), Reader.load(model_dir))
if report.problems:
    ...
"""
